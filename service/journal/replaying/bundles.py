"""The bundles that journalled rows run on again: those that answered, or another version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchproof.service.bundle import reader as bundles
from batchproof.service.configuration.address import Root
from batchproof.service.configuration.settings import RUN_ROWS
from batchproof.service.errors import BundleError, EngineError
from batchproof.service.inference import model as loading
from batchproof.service.inference.catalogue.repository import BundleFolder
from batchproof.service.inference.catalogue.roots import scan
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.invariance.check import for_bundles
from batchproof.service.invariance.verdict import Policy

POLICIES: Mapping[str, Policy] = {"tiled": "tile", "reported": "report", "violated": "report"}  # by what was said then


@dataclass(frozen=True)
class Shelf:
    """Bundles, each loaded when it is asked for, as it was served."""

    name: str  # of the place they come from, for a sentence
    found: Sequence[BundleFolder]
    options: EngineOptions
    run_rows: int = RUN_ROWS

    @classmethod
    def of(cls, root: Root, options: EngineOptions, run_rows: int = RUN_ROWS) -> "Shelf":
        """List the bundles of a folder or an address; raises BundleError where there is none."""
        found, _ = scan(root, Selection("all"))
        return cls(str(root), found, options, run_rows)

    def answered(self, header: Mapping[str, Any]) -> Model | str:
        """Return the model that a segment's header names, run as it was then, or why it is not here."""
        policy = POLICIES.get(str(header["fingerprint"].get("invariance")), "require")
        return self._load(str(header["model"]), int(header["version"]), str(header["seal"]), policy)

    def version(self, name: str, version: int) -> Model | str:
        """Return a version of a model, whatever its checksum, or why it is not here."""
        return self._load(name, version, None, "require")

    def _load(self, name: str, version: int, seal: str | None, policy: Policy) -> Model | str:
        why = f"{self.name} holds no {name} version {version}"
        for place in self.found:
            if place.version is not None and (place.name, place.version) != (name, version):
                continue
            try:
                bundle = bundles.read(place.folder)
                manifest = bundle.manifest
                if (manifest.name, manifest.version) != (name, version):
                    continue
                if seal not in (None, manifest.sha256):
                    why = (
                        f"{place.folder} is not the bundle that answered: its seal is "
                        f"{manifest.sha256[:12]}…, not {str(seal)[:12]}…"
                    )
                    continue
                return loading.load(bundle, self.options, self.run_rows, for_bundles(policy))
            except (BundleError, EngineError) as error:
                why = f"{place.folder}: {error}"
        return why
