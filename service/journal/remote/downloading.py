"""A journal in an object store, copied for as long as it is read."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import dropwhile
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from batchproof.service.configuration.address import OBJECT_SCHEMES, Root
from batchproof.service.errors import JournalError, first_line
from batchproof.service.journal.remote.names import place_of
from batchproof.service.journal.segment import SUFFIX, SUMS_SUFFIX
from batchproof.service.stores.object_path import object_path
from batchproof.service.stores.store import StoreError

CLOCK = timedelta(hours=1)  # by which the clocks of the store and of the service may differ


@contextmanager
def local_journal(journal: Root, since: datetime | None = None, model: str | None = None) -> Iterator[Path]:
    """Give a folder with the segments of a journal: its own, or a copy from a store that is removed at the end.

    Only segments of `model`, and of each chain only those that may have rows from `since` on, are copied: a segment is
    uploaded after its last row. Raises JournalError.
    """
    if isinstance(journal, Path):
        yield journal
        return
    if journal.scheme not in OBJECT_SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in OBJECT_SCHEMES)
        raise JournalError(f"{journal} cannot be a journal: the address of a journal begins with {known}")
    with tempfile.TemporaryDirectory(prefix="batchproof-journal-") as folder:
        try:
            store = object_path(journal)
            listed = store.files.get_file_info(fs.FileSelector(store.path, allow_not_found=True))
            found = {one.base_name: one.mtime_ns / 1e9 for one in listed if one.type == fs.FileType.File}
            chosen = _chosen(found, 0.0 if since is None else (since - CLOCK).timestamp(), model)
            for name in chosen:
                (store / name).download(Path(folder, name))
        except (pa.ArrowException, OSError, ValueError, StoreError) as error:
            raise JournalError(f"{journal} cannot be read: {first_line(error)}") from error
        if not any(name.endswith(SUFFIX) for name in found):
            raise JournalError(f"{journal} holds no journal: there is no object *{SUFFIX}")
        if not chosen:
            raise JournalError(f"{journal} holds no segment with such rows")
        yield Path(folder)


def _chosen(found: Mapping[str, float], since_s: float, model: str | None) -> list[str]:
    """Return which of the objects {name: when it was uploaded} to copy: segments with their digests, and digests on their own.

    A segment without digests is still on its way: the digests are uploaded last.
    """
    chains: dict[str, list[str]] = {}
    names = [name.removesuffix(SUMS_SUFFIX) for name in found if name.endswith(SUFFIX + SUMS_SUFFIX)]
    for name in sorted(names, key=place_of):
        if model in (None, place_of(name).model):
            chains.setdefault(place_of(name).chain, []).append(name)
    chosen = []
    for chain in chains.values():
        for name in dropwhile(lambda name: found[name + SUMS_SUFFIX] < since_s, chain):
            chosen += [one for one in (name, name + SUMS_SUFFIX) if one in found]
    return chosen
