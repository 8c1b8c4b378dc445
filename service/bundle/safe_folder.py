"""A folder of somebody else's files, read without following a link and without reading more than was agreed."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchproof.service.errors import BundleError

CHUNK_BYTES = 1 << 20


class Folder:
    """An open directory: files are opened relative to it, so that a renamed parent cannot redirect a read."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Hold the open `descriptor` of `path`; `opened` is the way to get one."""
        self.path = path
        self._descriptor = descriptor

    def names(self) -> set[str]:
        """Return the names of everything in the folder."""
        return set(os.listdir(self._descriptor))  # noqa: PTH208 - of a descriptor, not of a path

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the whole regular file `name`; refuses links, devices and more than `max_bytes`."""
        return b"".join(self._chunks(name, max_bytes))

    def digest(self, name: str, max_bytes: int) -> tuple[str, int]:
        """Return (SHA-256, bytes) of the regular file `name` without keeping it in memory."""
        sha256, size = hashlib.sha256(), 0
        for chunk in self._chunks(name, max_bytes):
            sha256.update(chunk)
            size += len(chunk)
        return sha256.hexdigest(), size

    def _chunks(self, name: str, max_bytes: int) -> Iterator[bytes]:
        try:
            # Not blocking: a named pipe must be refused below, not waited for.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=self._descriptor)
        except FileNotFoundError as error:
            raise BundleError(f"{name} is missing from {self.path}") from error
        except OSError as error:
            raise BundleError(f"{name} cannot be read as a regular file (links are not followed): {error}") from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise BundleError(f"{name} is not a regular file")
        with os.fdopen(file, "rb", buffering=0) as stream:
            left = max_bytes
            while left >= 0 and (chunk := stream.read(min(CHUNK_BYTES, left + 1))):
                left -= len(chunk)
                yield chunk
            if left < 0:
                raise BundleError(f"{name} has more than the allowed {max_bytes} bytes")


@contextmanager
def opened(path: Path) -> Iterator[Folder]:
    """Open the folder at `path`, which must not be a link itself; raises BundleError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(f"{path} is not a readable folder (links are not followed): {error.strerror}") from error
    try:
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)
