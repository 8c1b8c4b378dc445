"""The table that a command names, as a file or folder of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchproof.service.configuration.address import Root
from batchproof.service.tables.offline.sources import SourceError, source_path
from batchproof.training.data.tables.table_error import TableError


@contextmanager
def local_table(root: Root) -> Iterator[Path]:
    """Yield the path of a table: of `-`, standard input, and of an address that of a temporary copy.

    Raises TableError where there is nothing at an address, OSError where its store does not answer.
    """
    try:
        with source_path(root) as path:
            yield path
    except SourceError as error:
        raise TableError(f"{error}.") from error
