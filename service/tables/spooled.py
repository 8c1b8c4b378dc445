"""A body as a file that can be searched: Parquet has its table of contents at its end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from service import errors

COPY_BYTES = 1 << 20


@contextmanager
def spooled(file: BinaryIO, limit_bytes: int) -> Iterator[BinaryIO]:
    """Copy `file` to a temporary file, which is removed at the end; raises 413."""
    with tempfile.TemporaryFile(prefix="batchproof-") as whole:
        shutil.copyfileobj(file, whole, COPY_BYTES)
        if whole.tell() > limit_bytes:
            raise errors.body_too_large(limit_bytes)
        whole.seek(0)
        yield cast(BinaryIO, whole)
