"""A body that is kept in a temporary file, because it is read from its end."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from batchproof.service import errors

COPY_BYTES = 1 << 20


@contextmanager
def temporary_file() -> Iterator[BinaryIO]:
    """Open a file that is removed at the end; raises ServiceError (507) where there is no folder for it."""
    try:
        file = tempfile.TemporaryFile(prefix="batchproof-", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise errors.no_disk_space(error) from error
    with file:
        yield cast(BinaryIO, file)


def copy(source: BinaryIO, target: BinaryIO) -> None:
    """Copy all of `source`; raises ServiceError (507) where `target` cannot hold it, and what reading raises."""
    while data := source.read(COPY_BYTES):
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[target.write(rest) :]
        except OSError as error:
            raise errors.no_disk_space(error) from error


@contextmanager
def spooled(file: BinaryIO, limit_bytes: int) -> Iterator[BinaryIO]:
    """Copy `file` to a temporary file, which is removed at the end; raises 413, and 507 where the disk has no room."""
    with temporary_file() as whole:
        copy(file, whole)
        if whole.tell() > limit_bytes:
            raise errors.body_too_large(limit_bytes)
        whole.seek(0)
        yield whole
