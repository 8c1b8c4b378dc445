"""One segment on the disk: an Arrow stream, and beside it a line with size and SHA-256 for each batch written.

Both files only grow. The rows come first, then the line that covers them, so after a kill at any moment everything up to
the last line is whole and checked, and at most one batch behind it is not.
"""

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.service.runtime.system import sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".arrows"
SUMS_SUFFIX = ".sha256"
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"  # as Arrow ends a stream
END = "end"  # the last word of the line that covers a finished segment
Sign = Callable[[bytes], bytes]


class Segment:
    """A segment that grows. Not thread-safe."""

    def __init__(self, path: Path, schema: "pa.Schema", *, sync: bool) -> None:
        """Create both files; raises OSError. With `sync` each batch is on the disk before `write` returns."""
        self.path = path
        self.rows = 0
        self._sync = sync
        self._sums = sums_path(path).open("xb", buffering=0)  # first: a segment without it would be a problem
        _lock(self._sums)
        try:
            self._file = _HashedFile(path)
        except OSError:
            self._sums.close()
            sums_path(path).unlink()
            raise
        try:
            self._file.write(bytes(schema.serialize()))
            self._note()
            if sync:
                sync_folder(path.parent)
        except OSError:  # on a full disk there may be a name, but no room for a byte
            self.abandon()
            for begun in (path, sums_path(path)):
                begun.unlink(missing_ok=True)
            raise

    @property
    def size(self) -> int:
        """Return the bytes of the stream."""
        return self._file.size

    def write(self, message: bytes, rows: int) -> None:
        """Append a record batch of `rows` rows; raises OSError, after which nothing more may be written here."""
        self._file.write(message)
        self.rows += rows
        self._note()

    def finish(self, sign: Sign | None = None) -> str:
        """End the segment and return its SHA-256, signed where `sign` is given; raises OSError."""
        self._file.write(END_OF_STREAM)
        self._note(END, *([base64.b64encode(sign(self._file.digest().encode())).decode()] if sign else []))
        digest = self._file.digest()
        os.fsync(self._file.fileno())
        os.fsync(self._sums.fileno())
        self.abandon()
        return digest

    def abandon(self) -> None:
        """Close the files as they are."""
        self._file.close()
        self._sums.close()

    def _note(self, *words: str) -> None:
        if self._sync:
            os.fsync(self._file.fileno())
        line = " ".join([str(self._file.size), self._file.digest(), *words])
        _write_all(self._sums, f"{line}\n".encode())
        if self._sync:
            os.fsync(self._sums.fileno())


class _HashedFile:
    """A new file that knows the SHA-256 of what was written to it."""

    def __init__(self, path: Path) -> None:
        """Create it; raises OSError where it exists."""
        self._file = path.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Write all of `data`."""
        _write_all(self._file, data)
        self._hash.update(data)
        self.size += len(data)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def digest(self) -> str:
        """Return the SHA-256 so far."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def sums_path(path: Path) -> Path:
    """Return the file of sizes and digests beside a segment."""
    return path.with_name(path.name + SUMS_SUFFIX)


def _lock(file: Any) -> None:
    """Show other processes that the file is being written, until it is closed or this process ends.

    A file system without locks is no reason to write nothing.
    """
    with contextlib.suppress(OSError, ImportError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _write_all(file: Any, data: bytes) -> None:
    """Write everything: an unbuffered file may take only a part at a time."""
    place = file.write(data)
    while place < len(data):
        place += file.write(memoryview(data)[place:])
