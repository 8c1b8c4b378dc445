"""What is to be served next, decided once: versions by checksum, labels, challengers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from batchproof.service.bundle.reader import Bundle
from batchproof.service.inference.catalogue.registry import Registry
from batchproof.service.inference.catalogue.repository import Refusal


class Entry(NamedTuple):
    """One version as its seal names it, and the folder that it was read from."""

    name: str
    version: int
    sha256: str
    folder: str


@dataclass(frozen=True)
class Plan:
    """The whole of what is served. Two plans of the same generation differ only in what was refused."""

    generation: int
    entries: tuple[Entry, ...]
    defaults: Mapping[str, int] = field(default_factory=dict)  # the version that answers where none is named
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # name -> label -> version
    shadows: Mapping[str, int] = field(default_factory=dict)
    shadow_share: float = 0.1
    refusals: tuple[Refusal, ...] = ()
    unloaded: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def of(cls, served: Registry, shadow_share: float, generation: int = 1) -> "Plan":
        """Return the plan of what was loaded at the start."""
        entries = (
            Entry(name, version, model.manifest.sha256, str(model.bundle.folder))
            for name, versions in served.models.items()
            for version, model in versions.items()
        )
        return cls(
            generation,
            tuple(sorted(entries)),
            served.defaults,
            served.labels,
            served.shadows,
            shadow_share,
            served.refusals,
        )

    def entry(self, name: str, version: int | None) -> Entry | None:
        """Return the entry of a version, where it is served."""
        return next((entry for entry in self.entries if entry[:2] == (name, version)), None)

    def at(self, folder: Path) -> Entry | None:
        """Return the entry that was read from a folder."""
        return next((entry for entry in self.entries if entry.folder == str(folder)), None)

    def seals(self) -> set[bytes]:
        """Return NAME/VERSION/SHA256 of all that is served."""
        return {f"{name}/{version}/{sha256}".encode() for name, version, sha256, _ in self.entries}

    def serves_like(self, other: "Plan") -> bool:
        """Return whether callers would notice no difference."""
        return self.seals() == other.seals() and self == replace(
            other, generation=self.generation, refusals=self.refusals, entries=self.entries, unloaded=self.unloaded
        )

    def as_json(self) -> bytes:
        """Return it for a worker."""
        return orjson.dumps(
            {
                **self.__dict__,
                "entries": [list(entry) for entry in self.entries],
                "refusals": [refusal.__dict__ for refusal in self.refusals],
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> "Plan":
        """Return what `as_json` wrote."""
        content: dict[str, Any] = orjson.loads(raw)
        content["entries"] = tuple(Entry(*entry) for entry in content["entries"])
        content["refusals"] = tuple(Refusal(**refusal) for refusal in content["refusals"])
        content["unloaded"] = tuple((name, version) for name, version in content["unloaded"])
        return cls(**content)


@dataclass(frozen=True)
class Committed:
    """A plan with the bundles that it was made from, for a worker that starts later, whatever the folders hold by then."""

    plan: Plan
    bundles: Mapping[Entry, Bundle]


class Fault(NamedTuple):
    """Why a plan cannot be served: one of its entries, or the plan as a whole."""

    reason: str
    entry: Entry | None = None
