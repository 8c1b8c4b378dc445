"""models/<name>/<version>/ to loaded models: the versions that are wanted, labels, and refusals by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.reader import Bundle
from batchproof.service.configuration.address import Root
from batchproof.service.errors import BundleError, EngineError, ServiceError, nearest
from batchproof.service.features.row_encoder import listed
from batchproof.service.inference.catalogue.repository import BundleFolder, Refusal
from batchproof.service.inference.catalogue.roots import scan
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.inference.model import Model

if TYPE_CHECKING:
    from batchproof.service.bundle.signing.trust import TrustPolicy


@dataclass(frozen=True)
class Registry:
    """What is served, and what was refused. Never changed: a newer set of models is a new registry."""

    models: Mapping[str, Mapping[int, Model]] = field(default_factory=dict)  # name -> version -> model
    refusals: tuple[Refusal, ...] = ()
    defaults: Mapping[str, int] = field(default_factory=dict)  # the version that answers where none is named
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # name -> label -> version
    shadows: Mapping[str, int] = field(default_factory=dict)  # name -> version that is compared with the default one
    unloaded: tuple[tuple[str, int | None], ...] = ()  # versions of models that a caller has unloaded

    @property
    def names(self) -> list[str]:
        """Return the names of the models that were found, whether they loaded or were refused."""
        return sorted({*self.models, *(refusal.name for refusal in self.refusals if refusal.version is not None)})

    def newest(self, name: str) -> Model:
        """Return the version that answers where none is named, the newest by its policy; raises KeyError."""
        versions = self.models[name]
        return versions[self.defaults.get(name, max(versions))]

    def labels_of(self, name: str, version: int) -> list[str]:
        """Return the labels of one version."""
        return [label for label, labelled in self.labels.get(name, {}).items() if labelled == version]

    def only(self, is_visible: Callable[[str], bool]) -> "Registry":
        """Return the models whose name is visible, with their refusals, defaults, labels and shadows."""

        def visible(named: Mapping[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in named.items() if is_visible(name)}

        return Registry(
            visible(self.models),
            tuple(refusal for refusal in self.refusals if is_visible(refusal.name)),
            visible(self.defaults),
            visible(self.labels),
            visible(self.shadows),
            tuple(entry for entry in self.unloaded if is_visible(entry[0])),
        )

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

    def read(self, folder: BundleFolder, limits: bundle.Limits | None, trust: "TrustPolicy | None") -> Bundle:
        """Return the bundle as it was, or as it is where it was not read then; raises BundleError."""
        if folder.folder in self.faults:
            raise BundleError(self.faults[folder.folder])
        return self.bundles.get(folder.folder) or read(folder, limits, trust)


def take_snapshot(
    root: Root,
    selection: Selection | None = None,
    limits: bundle.Limits | None = None,
    trust: "TrustPolicy | None" = None,
) -> Snapshot:
    """Read, but do not load, the bundles that `load` would load; raises BundleError where `root` is no folder."""
    selection = selection or Selection()
    folders, refusals = scan(root, selection, trust)
    bundles: dict[Path, Bundle] = {}
    faults: dict[Path, str] = {}

    def take(folder: BundleFolder) -> int | None:
        try:
            read_bundle = bundles[folder.folder] = read(folder, limits, trust)
        except BundleError as error:
            faults[folder.folder] = str(error)
            return None
        return read_bundle.manifest.version

    selection.walk(folders, take)
    return Snapshot(folders, refusals, bundles, faults)


def load(
    root: Root,
    load_one: Callable[[Bundle], Model],
    selection: Selection | None = None,
    limits: bundle.Limits | None = None,
    trust: "TrustPolicy | None" = None,
    snapshot: Snapshot | None = None,
) -> Registry:
    """Load the models under `root`, or of a `snapshot` of it; a bad bundle is refused by name and does not affect the others.

    If the newest version is refused, the next older one that loads is served instead, and the refusal stays
    listed. A pinned version is not replaced. A label whose version is not served has no route.
    Raises BundleError where `root` is no folder, and where it has no folder for a pinned version.
    """
    selection = selection or Selection()
    snapshot = snapshot or Snapshot(*scan(root, selection, trust))
    refusals = list(snapshot.refusals)
    models: dict[str, dict[int, Model]] = {}

    def take(folder: BundleFolder) -> int | None:
        try:
            loaded = load_one(snapshot.read(folder, limits, trust))
        except (BundleError, EngineError) as error:
            refusals.append(Refusal(folder.name, folder.version, str(error)))
            return None
        models.setdefault(loaded.manifest.name, {})[loaded.manifest.version] = loaded
        return loaded.manifest.version

    defaults = selection.walk(snapshot.folders, take)
    check_pins(root, selection, snapshot.folders, models)
    labels = {
        name: {label: version for label, version in wanted.items() if version in models.get(name, {})}
        for name, wanted in selection.labels.items()
    }
    shadows = {name: version for name, version in selection.shadows.items() if version in models.get(name, {})}
    of_models = {name: version for name, version in defaults.items() if version in models.get(name, {})}
    return Registry(models, tuple(refusals), of_models, labels, shadows=shadows)


def check_pins(
    root: Root, selection: Selection, folders: Sequence[BundleFolder], served: Mapping[str, Mapping[int, object]]
) -> None:
    """Raise BundleError where there is no folder for a pinned version that is not served."""
    present = {(folder.name, folder.version) for folder in folders}
    for name, version in selection.pinned():
        if version not in served.get(name, {}) and (name, version) not in present:
            raise BundleError(f"Model {name!r}: version {version} is pinned, but {root} has no folder {name}/{version}")


def read(folder: BundleFolder, limits: bundle.Limits | None = None, trust: "TrustPolicy | None" = None) -> Bundle:
    """Return the bundle in a folder; raises BundleError, also where it is not what its path says."""
    if folder.fault:
        raise BundleError(folder.fault)
    read_bundle = bundle.read(folder.folder, limits, trust)
    named = (read_bundle.manifest.name, read_bundle.manifest.version)
    if folder.version is not None and named != (folder.name, folder.version):
        raise BundleError(
            f"bundle.json says {named[0]} version {named[1]}, but its folder says {folder.name} version {folder.version}"
        )
    return read_bundle


def absent(registry: Registry, name: str, version: int | None = None) -> ServiceError:
    """Return 503 with the sentence that refused the model or this version of it, else 404 with what there is."""
    for refusal in registry.refusals:
        if refusal.name == name and version in (None, refusal.version) and name in registry.names:
            which = name if refusal.version is None else f"{name} version {refusal.version}"
            return ServiceError(503, "model_refused", f"{which} was refused: {refusal.message.rstrip('.')}.")
    if name not in registry.models:
        return unknown_model(name, registry.names)
    served = ", ".join(map(str, sorted(registry.models[name])))
    return ServiceError(404, "unknown_version", f"Model {name!r} is served only in version {served}.")


def unknown_model(name: str, names: Sequence[str]) -> ServiceError:
    """Return 404 with the nearest of `names`, else with all of them, a long list cut."""
    start = f"There is no model {name!r:.100}"
    if near := nearest(name, names):
        return ServiceError(404, "unknown_model", f"{start}.{near}")
    there = "none is served" if not names else f"there {'is' if len(names) == 1 else 'are'} {listed(names)}"
    return ServiceError(404, "unknown_model", f"{start}; {there}.")
