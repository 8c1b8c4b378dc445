"""The bundles of a models folder, each read once for each state of its files: a look that finds nothing new is cheap."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from batchproof.service.bundle.reader import Bundle
from batchproof.service.errors import BundleError
from batchproof.service.inference.catalogue.plan import Entry
from batchproof.service.inference.catalogue.registry import read
from batchproof.service.inference.catalogue.repository import BundleFolder

if TYPE_CHECKING:
    from batchproof.service.bundle.signing.trust import TrustPolicy

Stamp: TypeAlias = tuple[tuple[str, int, int, int, int], ...]  # of each file: name, bytes, two times, inode


@dataclass(frozen=True)
class Item:
    """What a folder held when it had this stamp."""

    stamp: Stamp
    bundle: Bundle | None
    entry: Entry | None  # None: it could not be read
    fault: str = ""  # why it is not served, as long as its files stay as they are


class Shelf:
    """Bundles by folder. Used by one thread."""

    def __init__(self, trust: "TrustPolicy | None" = None) -> None:
        """Accept the signers of `trust`; without it, signatures are not looked at."""
        self.trust = trust
        self._items: dict[Path, Item] = {}
        self._kept: dict[Entry, Bundle] = {}  # what is served, whatever its folder holds by now

    def look(self, folder: BundleFolder) -> Item:
        """Return what is in the folder; it is read again only if one of its files changed."""
        if folder.fault:
            return Item((), None, None, folder.fault)
        stamp = stamp_of(folder.folder)  # before the bundle is read: what changes meanwhile is read again next time
        item = self._items.get(folder.folder)
        if item is None or item.stamp != stamp:
            item = self._items[folder.folder] = self._read(folder, stamp)
        return item

    def bundle(self, entry: Entry) -> Bundle | None:
        """Return the bundle of an entry, where it is in memory."""
        item = self._items.get(Path(entry.folder))
        if item is not None and item.bundle is not None and item.entry == entry:
            return item.bundle
        return self._kept.get(entry)

    def hold(self, entry: Entry, bundle: Bundle) -> None:
        """Have a bundle in memory that is served since the start."""
        self._kept[entry] = bundle

    def refuse(self, folder: Path, reason: str) -> None:
        """Pass over what the folder holds until a file of it changes."""
        item = self._items.get(folder)
        if item is not None:
            self._items[folder] = replace(item, bundle=None, fault=reason)

    def forget_faults(self) -> None:
        """Read again what was refused: the reason may have gone, such as too little memory."""
        self._items = {path: item for path, item in self._items.items() if not item.fault}

    def keep(self, entries: Collection[Entry]) -> None:
        """Hold the bundles of `entries` and let go of every other one; what was refused stays known."""
        self._kept = {entry: bundle for entry in entries if (bundle := self.bundle(entry)) is not None}
        folders = {Path(entry.folder) for entry in entries}
        self._items = {path: item for path, item in self._items.items() if item.fault or path in folders}

    def _read(self, folder: BundleFolder, stamp: Stamp) -> Item:
        try:
            bundle = read(folder, None, self.trust)
        except BundleError as error:
            return Item(stamp, None, None, str(error))
        manifest = bundle.manifest
        entry = Entry(manifest.name, manifest.version, manifest.sha256, str(folder.folder))
        return Item(stamp, self._kept.get(entry, bundle), entry)


def stamp_of(folder: Path) -> Stamp:
    """Return what changes with any file of the folder; empty where it cannot be listed."""
    try:
        with os.scandir(folder) as files:
            stats = [(file.name, file.stat(follow_symlinks=False)) for file in files]
    except OSError:
        return ()
    return tuple(sorted((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in stats))
