"""What should be served next: the wanted versions of a folder, by what can be read of it and by what is served now."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchproof.service.configuration.address import Root
from batchproof.service.errors import BundleError
from batchproof.service.inference.catalogue.plan import Entry, Plan
from batchproof.service.inference.catalogue.registry import check_pins
from batchproof.service.inference.catalogue.repository import BundleFolder, Refusal
from batchproof.service.inference.catalogue.roots import scan
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.inference.catalogue.shelf import Shelf


@dataclass(frozen=True)
class Wish:
    """What the settings and callers ask for."""

    selection: Selection
    shadow_share: float
    unloaded: frozenset[str] = frozenset()  # models that a caller has unloaded
    only: str | None = None  # the one model that may change; None: all


@dataclass
class _Draft:
    """A plan in the making."""

    entries: dict[tuple[str, int], Entry] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


class Planner:
    """Plans for one models folder. Used by one thread."""

    def __init__(self, root: Root, shelf: Shelf) -> None:
        """Look at `root` through `shelf`."""
        self._root = root
        self._shelf = shelf

    @staticmethod
    def folder_of(entry: Entry) -> Path:
        """Return the folder that an entry was read from."""
        return Path(entry.folder)

    def plan(self, wish: Wish, served: Plan) -> Plan:
        """Return the plan that follows `served`, which is equal to it where nothing is to change.

        A version that is served stays as long as its folder is there, whatever the folder holds: what is being
        overwritten is no reason to fall back. Raises BundleError where the folder cannot be listed, holds no bundle at
        all, or has no folder for a pinned version.
        """
        folders, refusals = scan(self._root, wish.selection, self._shelf.trust)
        if served.entries and not folders:
            raise BundleError(f"{self._root} holds no bundle any more")
        unloaded = tuple((folder.name, folder.version) for folder in folders if folder.name in wish.unloaded)
        folders = [folder for folder in folders if folder.name not in wish.unloaded]
        if wish.only is not None:
            folders = [folder for folder in folders if folder.name == wish.only]
        draft = _Draft(refusals=[one for one in refusals if wish.only in (None, one.name)])
        defaults = self._walk(folders, wish.selection, served, draft)
        labels = self._labels(wish, served, draft)
        seen: dict[str, dict[int, Entry]] = {}
        for (name, version), entry in draft.entries.items():
            seen.setdefault(name, {})[version] = entry
        selection = wish.selection
        if wish.only is None:
            pins = {name: pin for name, pin in selection.pins.items() if name not in wish.unloaded}
            check_pins(self._root, replace(selection, pins=pins), folders, seen)
        if served.entries and not draft.entries and wish.only is None and not wish.unloaded:
            why = f": {draft.refusals[0].message}" if draft.refusals else ""
            raise BundleError(f"nothing in {self._root} can be served{why}")
        shadows = {name: version for name, version in selection.shadows.items() if version in seen.get(name, {})}
        plan = Plan(
            served.generation + 1,
            tuple(sorted(draft.entries.values())),
            defaults,
            labels,
            shadows,
            wish.shadow_share,
            tuple(draft.refusals),
            unloaded,
        )
        if wish.only is not None:
            plan = _beside(plan, served, wish.only)
        return replace(plan, generation=served.generation, entries=served.entries) if plan.serves_like(served) else plan

    def _walk(self, folders: list[BundleFolder], selection: Selection, served: Plan, draft: _Draft) -> dict[str, int]:
        def take(folder: BundleFolder) -> int | None:
            item = self._shelf.look(folder)
            entry = item.entry
            if item.fault or entry is None:
                draft.refusals.append(Refusal(folder.name, folder.version, item.fault))
                entry = served.entry(folder.name, folder.version) or served.at(folder.folder)
            if entry is None:
                return None
            draft.entries[(entry.name, entry.version)] = entry
            return entry.version

        defaults = selection.walk(folders, take)
        return {name: version for name, version in defaults.items() if (name, version) in draft.entries}

    def _labels(self, wish: Wish, served: Plan, draft: _Draft) -> dict[str, Mapping[str, int]]:
        """Return where labels point: a label whose version cannot be served stays where it was."""
        labels: dict[str, Mapping[str, int]] = {}
        for name, wanted in wish.selection.labels.items():
            if name in wish.unloaded or wish.only not in (None, name):
                continue
            moved = dict(wanted)
            for label, version in wanted.items():
                if (name, version) in draft.entries:
                    continue
                before = served.labels.get(name, {}).get(label)
                entry = served.entry(name, before)
                reason = f"label {label!r} cannot move to version {version}, which is not served"
                if not any(one.name == name and one.version == version for one in draft.refusals):
                    draft.refusals.append(Refusal(name, version, reason))
                if entry is None:
                    del moved[label]
                else:
                    draft.entries.setdefault((name, entry.version), entry)
                    moved[label] = entry.version
            labels[name] = moved
        return labels


def _beside(plan: Plan, served: Plan, name: str) -> Plan:
    """Return the plan with all other models as they are served."""
    return replace(
        plan,
        entries=tuple(sorted([*plan.entries, *(entry for entry in served.entries if entry.name != name)])),
        defaults={**{key: one for key, one in served.defaults.items() if key != name}, **plan.defaults},
        labels={**{key: one for key, one in served.labels.items() if key != name}, **plan.labels},
        shadows={**{key: one for key, one in served.shadows.items() if key != name}, **_only(plan.shadows, name)},
        refusals=(*(one for one in served.refusals if one.name != name), *plan.refusals),
    )


def _only(shadows: Mapping[str, int], name: str) -> dict[str, int]:
    return {key: version for key, version in shadows.items() if key == name}
