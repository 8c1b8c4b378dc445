"""Read a folder of untrusted files without following links and within size limits."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import islice
from pathlib import Path

from batchproof.service.errors import BundleError

CHUNK_BYTES = 1 << 20
MAX_ENTRIES = 1000


class Folder:
    """An open directory: files are opened relative to it, so that a renamed parent cannot redirect a read."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        """Hold the open `descriptor` of `path`, None on Windows, which opens none; `opened` is the way to get one."""
        self.path = path
        self._descriptor = descriptor

    def names(self) -> set[str]:
        """Return the names of everything in the folder; raises BundleError where it holds far more than a bundle does."""
        with os.scandir(self.path if self._descriptor is None else self._descriptor) as entries:
            names = {entry.name for entry in islice(entries, MAX_ENTRIES + 1)}
        if len(names) > MAX_ENTRIES:
            raise BundleError(f"{self.path} holds more than {MAX_ENTRIES} files")
        return names

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the whole regular file `name`, held in memory once; refuses links, devices and more than `max_bytes`."""
        with self._open(name, max_bytes) as stream:
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(size)
            is_whole = len(content) == size and not stream.read(1)
        if not is_whole:
            raise BundleError(f"{name} changed while it was read")
        return content

    def digest(self, name: str, max_bytes: int) -> tuple[str, int]:
        """Return (SHA-256, bytes) of the regular file `name` without keeping it in memory."""
        sha256, size = hashlib.sha256(), 0
        with self._open(name, max_bytes) as stream:
            while size <= max_bytes and (chunk := stream.read(CHUNK_BYTES)):
                sha256.update(chunk)
                size += len(chunk)
        if size > max_bytes:
            raise BundleError(f"{name} changed while it was read")
        return sha256.hexdigest(), size

    @contextmanager
    def _open(self, name: str, max_bytes: int) -> Iterator[BufferedReader]:
        try:
            file = self._descriptor_of(name)
        except FileNotFoundError as error:
            raise BundleError(f"{name} is missing from {self.path}") from error
        except OSError as error:
            raise BundleError(
                f"{name} cannot be read as a regular file (links are not followed): {error.strerror}"
            ) from error
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            os.close(file)
            raise BundleError(f"{name} is not a regular file")
        with os.fdopen(file, "rb") as stream:
            if status.st_size > max_bytes:
                raise BundleError(f"{name} has more than the allowed {max_bytes} bytes")
            yield stream

    def _descriptor_of(self, name: str) -> int:
        if self._descriptor is None:
            path = self.path / name
            if not stat.S_ISREG(path.lstat().st_mode):
                raise BundleError(f"{name} is not a regular file (links are not followed)")
            return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        # Not blocking: a named pipe must be refused, not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=self._descriptor)


@contextmanager
def opened(path: Path) -> Iterator[Folder]:
    """Open the folder at `path`, which must not be a link itself; raises BundleError."""
    if os.open not in os.supports_dir_fd:
        if path.is_symlink() or not path.is_dir():
            raise BundleError(f"{path} is not a readable folder (links are not followed)")
        yield Folder(path, None)
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(f"{path} is not a readable folder (links are not followed): {error.strerror}") from error
    try:
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)
