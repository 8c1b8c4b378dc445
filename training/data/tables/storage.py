"""Where the values of a table are kept: in memory, or in scratch files that are mapped into it.

A scratch file has no name, so the system removes it when the process ends, however it ends. Its pages are the system's to
write out and to read again: they are no memory that the process must have. Both ways give the same values to the same code,
so a bundle has the same bytes.
"""

import errno
import mmap
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from batchproof.service.runtime import memory
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.distributed.place import on_this_machine

ALIGNMENT = 64  # bytes, of every buffer: what Arrow expects
LEAST_BYTES = 64 << 20  # of a scratch file
GROWTH = 8  # a further file has at least this part of what there is: their number grows slowly
SAY_EVERY_S = 10.0
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LASTING = "/var/tmp"  # noqa: S108 - the files in it have no names


class ScratchError(TableError):
    """A table that needs a scratch file which cannot be written; the message is one sentence."""


class Memory:
    """Keeps values in memory."""

    def __init__(self, room_bytes: int = sys.maxsize) -> None:
        """Leave `room_bytes` of memory for what is made of the values: how much of that is kept is the fit's to decide."""
        self.room_bytes = max(0, room_bytes)

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a block of rows, kept."""
        return batch

    def hold(self, array: np.ndarray) -> np.ndarray:
        """Return an array, kept."""
        return array

    def empty(self, shape: tuple[int, ...], kind: type) -> np.ndarray:
        """Return an array to be filled."""
        return np.empty(shape, kind)


MEMORY = Memory()


class Scratch(Memory):
    """Keeps values in scratch files. Every method raises ScratchError where a disk is full."""

    def __init__(self, say: Callable[[str], None] = lambda _: None, room_bytes: int = 0) -> None:
        """Hold nothing; `say` gets a line now and then while a table is read."""
        super().__init__(room_bytes)
        self.folder = scratch_folder()
        self._say, self._said_s = say, time.monotonic()
        self._file = np.empty(0, np.uint8)
        self._used = self._bytes = self._rows = 0

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Write a block of rows, and return it as it lies in the file."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        written = self.hold(np.frombuffer(sink.getvalue(), np.uint8))
        self._rows += batch.num_rows
        if time.monotonic() - self._said_s > SAY_EVERY_S:
            self._say(f"reading: {self._rows} rows so far")
            self._said_s = time.monotonic()
        return pa.ipc.open_stream(pa.py_buffer(written)).read_next_batch()

    def hold(self, array: np.ndarray) -> np.ndarray:
        """Copy an array to the file."""
        held = self.empty(array.shape, array.dtype.type)
        held[...] = array
        return held

    def empty(self, shape: tuple[int, ...], kind: type) -> np.ndarray:
        """Return an array in the file."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        if self._used + size > len(self._file):
            self._file = self._next_file(max(size, LEAST_BYTES, self._bytes // GROWTH))
            self._used, self._bytes = 0, self._bytes + len(self._file)
        part = self._file[self._used : self._used + size]
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return part.view(kind).reshape(shape)

    def _next_file(self, size: int) -> np.ndarray:
        """Return a file without a name, mapped, whose room on the disk is taken: a mapping of a full disk would end the process."""
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
                return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)
        except OSError as error:
            raise ScratchError(_unwritten(self.folder, size, error)) from error


def _unwritten(folder: Path, size: int, error: OSError) -> str:
    """Return the sentence for `size` bytes that cannot be written: the disk is full, or the folder is the wrong one."""
    if error.errno in FULL:
        return (
            f"the scratch files in {folder} need {shown(size)} more, and cannot be written ({error.strerror}; "
            f"{shown(shutil.disk_usage(folder).free)} free): set TMPDIR to a folder with more room, or --memory to more."
        )
    return (
        f"the scratch files cannot be written in {folder} ({error.strerror}): set TMPDIR to a folder on a disk that "
        "exists and can be written to, or --memory to more."
    )


def scratch_folder() -> Path:
    """Return the folder that TMPDIR names, or else /var/tmp where it can be written to: /tmp is often kept in memory."""
    if named := os.environ.get("TMPDIR"):
        return Path(named)
    return Path(LASTING if os.access(LASTING, os.W_OK) else tempfile.gettempdir())


def give_back() -> None:
    """Return memory that was freed to the system: Arrow and the C library keep it for later."""
    pa.default_memory_pool().release_unused()
    if sys.platform != "win32":
        memory.give_back()


def allowed(setting: str | None) -> int:
    """Return how many bytes a process may take: those of --memory, or half of what the machine or its container has.

    Processes of one run on one machine share that half. Without a limit where the system does not say what it has, as Windows does not.
    """
    if setting is not None:
        return memory.size_bytes(setting)
    try:
        return memory.limit_bytes() // 2 // on_this_machine()
    except (ImportError, AttributeError):
        return sys.maxsize


def shown(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
