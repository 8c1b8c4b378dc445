"""models/<name>/<version>/ to loaded models: the newest version, every one, or a pinned one; refusals by name."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.reader import Bundle
from batchproof.service.bundle.signing.trust import TrustPolicy
from batchproof.service.errors import BundleError, EngineError, ServiceError, nearest
from batchproof.service.features.encoder import listed
from batchproof.service.inference.model import Model
from batchproof.service.inference.repository import BundleFolder, Refusal, scan

Versions = Literal["newest", "all"]


@dataclass(frozen=True)
class Registry:
    """What is served, and what was refused. Never changed: a newer set of models is a new registry."""

    models: Mapping[str, Mapping[int, Model]] = field(default_factory=dict)  # name -> version -> model
    refusals: tuple[Refusal, ...] = ()

    @property
    def names(self) -> list[str]:
        """Return the names of the models that were found, whether they loaded or were refused."""
        return sorted({*self.models, *(refusal.name for refusal in self.refusals if refusal.version is not None)})

    def newest(self, name: str) -> Model:
        """Return the newest version that loaded; raises KeyError."""
        versions = self.models[name]
        return versions[max(versions)]

    def violated(self, name: str, version: int) -> "Registry":
        """Return these models, of which one was seen to break its promise."""
        versions = self.models[name]
        changed = {**versions, version: replace(versions[version], is_violated=True)}
        return replace(self, models={**self.models, name: changed})


@dataclass(frozen=True)
class Snapshot:
    """The bundles of a models folder as they were at one moment: what is loaded from it later does not change with it."""

    folders: Sequence[BundleFolder]
    refusals: Sequence[Refusal]
    bundles: Mapping[Path, Bundle] = field(default_factory=dict)  # by folder; an older version may not be among them
    faults: Mapping[Path, str] = field(default_factory=dict)  # why a folder was refused

    def read(self, folder: BundleFolder, limits: bundle.Limits | None, trust: TrustPolicy | None) -> Bundle:
        """Return the bundle as it was, or as it is where it was not read then; raises BundleError."""
        if folder.folder in self.faults:
            raise BundleError(self.faults[folder.folder])
        return self.bundles.get(folder.folder) or _read(folder, limits, trust)


def take_snapshot(
    root: Path,
    versions: Versions = "newest",
    pinned: Mapping[str, int] | None = None,
    limits: bundle.Limits | None = None,
    trust: TrustPolicy | None = None,
) -> Snapshot:
    """Read, but do not load, the bundles that `load` would load; raises BundleError where `root` is no folder."""
    folders, refusals = scan(root)
    bundles: dict[Path, Bundle] = {}
    faults: dict[Path, str] = {}
    names: set[str] = set()
    for folder in folders:
        if _is_wanted(folder, versions, pinned or {}, names):
            try:
                bundles[folder.folder] = _read(folder, limits, trust)
            except BundleError as error:
                faults[folder.folder] = str(error)
            else:
                names.add(folder.name)
    return Snapshot(folders, refusals, bundles, faults)


def load(
    root: Path,
    load_one: Callable[[Bundle], Model],
    versions: Versions = "newest",
    pinned: Mapping[str, int] | None = None,
    limits: bundle.Limits | None = None,
    trust: TrustPolicy | None = None,
    snapshot: Snapshot | None = None,
) -> Registry:
    """Load the models under `root`, or of a `snapshot` of it; a bad bundle is refused by name and never stops a good one.

    With `newest`, where the newest version is refused the next older one that loads is served in its place, and the
    refusal stays on record. A `pinned` version {name: version} is the only one served: nothing takes its place.
    Raises BundleError where `root` is no folder, and where it has no folder for a pinned version.
    """
    pinned = pinned or {}
    snapshot = snapshot or Snapshot(*scan(root))
    folders, refusals = snapshot.folders, list(snapshot.refusals)
    models: dict[str, dict[int, Model]] = {}
    for folder in folders:
        if not _is_wanted(folder, versions, pinned, models):
            continue
        try:
            loaded = load_one(snapshot.read(folder, limits, trust))
        except (BundleError, EngineError) as error:
            refusals.append(Refusal(folder.name, folder.version, str(error)))
        else:
            models.setdefault(loaded.manifest.name, {})[loaded.manifest.version] = loaded
    for name, version in pinned.items():
        is_loaded = version in models.get(name, {})  # a bundle folder given directly has its version inside
        if not is_loaded and not any((folder.name, folder.version) == (name, version) for folder in folders):
            raise BundleError(f"Model {name!r}: version {version} is pinned, but {root} has no folder {name}/{version}")
    return Registry(models, tuple(refusals))


def _is_wanted(folder: BundleFolder, versions: Versions, pinned: Mapping[str, int], loaded: Container[str]) -> bool:
    """Return whether to load a version, where a newer one of each name in `loaded` is loaded already."""
    if folder.name in pinned:
        return folder.version in (None, pinned[folder.name])
    return versions == "all" or folder.name not in loaded


def _read(folder: BundleFolder, limits: bundle.Limits | None, trust: TrustPolicy | None) -> Bundle:
    read = bundle.read(folder.folder, limits, trust)
    named = (read.manifest.name, read.manifest.version)
    if folder.version is not None and named != (folder.name, folder.version):
        raise BundleError(
            f"bundle.json says {named[0]} version {named[1]}, but its folder says {folder.name} version {folder.version}"
        )
    return read


def absent(registry: Registry, name: str, version: int | None = None) -> ServiceError:
    """Return 503 with the sentence that refused the model or this version of it, else 404 with what there is."""
    for refusal in registry.refusals:
        if refusal.name == name and version in (None, refusal.version) and name in registry.names:
            which = name if refusal.version is None else f"{name} version {refusal.version}"
            return ServiceError(503, "model_refused", f"{which} was refused: {refusal.message.rstrip('.')}.")
    if name not in registry.models:
        return unknown_model(name, registry.names)
    served = ", ".join(map(str, sorted(registry.models[name])))
    return ServiceError(404, "unknown_version", f"Model {name!r} is served in version {served} alone.")


def unknown_model(name: str, names: Sequence[str]) -> ServiceError:
    """Return 404 with the nearest of `names`, else with all of them, a long list cut."""
    start = f"There is no model {name!r:.100}"
    if near := nearest(name, names):
        return ServiceError(404, "unknown_model", f"{start}.{near}")
    there = "none is served" if not names else f"there {'is' if len(names) == 1 else 'are'} {listed(names)}"
    return ServiceError(404, "unknown_model", f"{start}; {there}.")
