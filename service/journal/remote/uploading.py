"""Finished segments into an object store, in a thread of the writing process that nothing waits for but its end.

The folder itself says what is to be done: every segment that is finished, or that its process left behind when it was
killed, and that the store does not have in the same size. So a start uploads what an earlier process could not. Within a
chain, segments go in their order, and each before its digests: what the store holds is a chain without a gap at any moment.
"""

import contextlib
import fcntl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from batchproof.service.errors import first_line
from batchproof.service.journal.remote.names import Place, place_of
from batchproof.service.journal.segment import END, SUFFIX, sums_path
from batchproof.service.runtime.logs import event
from batchproof.service.stores.object_path import ObjectPath
from batchproof.service.stores.store import StoreError

LOOK_S = 60.0  # between two looks at the folder: other processes may have been killed
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
LAST_LINE_BYTES = 1 << 10  # more than a line of digests has, with a signature
FAILURES = (pa.ArrowException, OSError, ValueError, ImportError, StoreError)  # ImportError: Arrow without this store
Open = Callable[[], ObjectPath]  # the folder in the store


class Tally(Protocol):
    """What is counted of uploads."""

    uploads: int
    upload_failures: int


class Uploader:
    """The thread that uploads the segments of one folder. Several processes may do so side by side."""

    def __init__(self, folder: Path, address: str, open_target: Open, counts: Tally) -> None:
        """Begin at once; `address` names the store in events. `open_target` runs in the thread: it may ask the network."""
        self._folder = folder
        self._address = address
        self._open_target = open_target
        self._counts = counts
        self._target: ObjectPath | None = None
        self._uploaded: frozenset[str] = frozenset()
        self._failed_chain = ""
        self._retry_s = 0.0
        self._wake = threading.Event()
        self._is_ending = False
        self._thread: threading.Thread | None = None
        self._start()

    def wake(self) -> None:
        """Look at the folder soon: a segment was finished."""
        if self._thread is None:
            self._start()
        if not self._retry_s:  # while the store is away, its pauses are kept
            self._wake.set()

    def is_uploaded(self, name: str) -> bool:
        """Return whether the store is known to have a segment."""
        return name in self._uploaded

    def close(self) -> None:
        """Try once to upload all that is there, and end."""
        self._is_ending = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        """Start the thread; where the system has none, the next segment or the next start of the service tries again."""
        thread = threading.Thread(target=self._run, name="journal-upload", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._fail(self._address, error)
            self._retry_s = 0.0
        else:
            self._thread = thread

    def _run(self) -> None:
        while True:
            self._wake.clear()
            is_last = self._is_ending
            self._look()
            if is_last:
                return
            self._wake.wait(self._retry_s or LOOK_S)

    def _look(self) -> None:
        """Upload what the store does not have, up to the first failure."""
        try:
            paths = list(self._folder.glob(f"*{SUFFIX}"))
            self._uploaded = self._uploaded.intersection(path.name for path in paths)
            missing = self._missing(paths)
            if missing and self._target is None:
                self._target = self._open_target()
        except FAILURES as error:
            self._fail(self._address, error)
            return
        for path in missing:
            try:
                self._upload(path)
            except FAILURES as error:
                if not path.exists():  # it was old, and another process removed it
                    continue
                self._failed_chain = place_of(path.name).chain
                self._fail(path.name, error)
                return
        self._retry_s = 0.0

    def _missing(self, paths: Sequence[Path]) -> Sequence[Path]:
        """Return those of the segments to look for in the store, chain by chain in their order; a chain that failed comes last."""

        def order(path: Path) -> tuple[bool, Place]:
            place = place_of(path.name)
            return place.chain == self._failed_chain, place

        return sorted((path for path in paths if path.name not in self._uploaded and is_closed(path)), key=order)

    def _upload(self, path: Path) -> None:
        """Upload a segment and then its digests, where the store does not have them in their size; raises FAILURES."""
        assert self._target is not None, "it was opened"
        sent_bytes = 0
        with path.open("rb") as segment:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(segment, fcntl.LOCK_EX)  # another worker may be uploading it
            for part in (path, sums_path(path)):
                target, size = self._target / part.name, part.stat().st_size
                if target.stat().st_size != size:
                    target.upload(part)
                    sent_bytes += size
        self._uploaded |= {path.name}
        self._retry_s = 0.0
        if sent_bytes:
            self._counts.uploads += 1
            event("journal_uploaded", segment=path.name, bytes=sent_bytes)

    def _fail(self, name: str, error: Exception) -> None:
        self._retry_s = min(max(FIRST_RETRY_S, 2 * self._retry_s), LONGEST_RETRY_S)
        self._counts.upload_failures += 1
        event(
            "journal_not_uploaded",
            40,
            segment=name,
            address=self._address,
            reason=first_line(error),
            retry_s=self._retry_s,
        )


def is_closed(path: Path) -> bool:
    """Return whether nobody writes to a segment any more: it is finished, or its process ended before it was.

    One that never had a whole line of digests has nothing to upload.
    """
    try:
        with sums_path(path).open("rb") as sums:
            sums.seek(max(0, sums_path(path).stat().st_size - LAST_LINE_BYTES))
            tail = sums.read()
            if b"\n" not in tail:
                return False
            if END.encode() in tail[: tail.rindex(b"\n")].rpartition(b"\n")[2].split(b" "):
                return True
            fcntl.flock(
                sums, fcntl.LOCK_SH | fcntl.LOCK_NB
            )  # its writer holds the lock; closing the file gives it back
            return True
    except OSError:
        return False
