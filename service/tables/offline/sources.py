"""Tables on disk, opened: plain files, packed ones, folders of Parquet files, and standard input."""

import gzip
import io
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO, cast

from batchproof.service.errors import ServiceError
from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, BY_SUFFIX, PARQUET, Format, pyarrow

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ARROW_FILE_MAGIC = b"ARROW1"
STANDARD_INPUT = "-"
PACKED = (".gz", ".zst")  # endings of packed text tables
HEAD_BYTES = 64  # of standard input, which say its format
PACKED_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
MAGIC = {b"PAR1": ".parquet", ARROW_FILE_MAGIC: ".arrow", b"\xff\xff\xff\xff": ".arrows", b"{": ".jsonl"}


class SourceError(Exception):
    """A table that cannot be opened; the text is one sentence without its full stop."""


def format_of(path: Path) -> Format:
    """Return the format that the ending names, or a folder holds; raises SourceError."""
    if path.is_dir():
        return PARQUET
    packing = packing_of(path)
    suffix = Path(path.stem).suffix if packing else path.suffix
    fmt = BY_SUFFIX.get(suffix.lower())
    if fmt is None:
        known = ", ".join(BY_SUFFIX)
        raise SourceError(f"{path} has the ending {suffix or '(none)'!r}; tables end in one of {known}")
    if packing and fmt.needs_pyarrow:
        raise SourceError(f"{path} is a packed {fmt.name} file: unpack it first; this format has its own compression")
    return fmt


def packing_of(path: Path) -> str:
    """Return the ending that says how the file is packed, `.gz` or `.zst`, or nothing."""
    suffix = path.suffix.lower()
    return suffix if suffix in PACKED else ""


def open_source(path: Path) -> tuple[BinaryIO, Format]:
    """Open a file, unpacked, and by Arrow where it is Arrow's; an Arrow stream may have the ending of an Arrow file."""
    fmt = format_of(path)
    if not fmt.needs_pyarrow:
        return _opened_text(path, fmt), fmt
    arrow = pyarrow(fmt)
    if fmt == ARROW_FILE:
        with path.open("rb") as file:
            fmt = ARROW_FILE if file.read(len(ARROW_FILE_MAGIC)) == ARROW_FILE_MAGIC else ARROW_STREAM
    return cast(BinaryIO, arrow.OSFile(str(path))), fmt


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files in and below a folder, in the order of their names; hidden ones and `_names` are not tables.

    Raises OSError for a folder that cannot be listed: its rows would be lost.
    """
    files = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name[0] not in "._"]
        files += [Path(parent, name) for name in names if name[0] not in "._"]
    return [path for path in sorted(files) if path.suffix.lower() in PARQUET.suffixes and path.is_file()]


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def standard_input(stream: BinaryIO | None = None) -> Iterator[Path]:
    """Copy standard input to a temporary file whose ending names its format, and yield the path."""
    stream = stream or sys.stdin.buffer
    with TemporaryDirectory(prefix="batchproof-") as folder:
        path = Path(folder, "stdin")
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        yield path.rename(path.with_name(f"stdin{_suffix(path)}"))


@contextmanager
def source_path(path: Path) -> Iterator[Path]:
    """Yield the path of a table; of `-` that of a temporary file that holds standard input."""
    if str(path) != STANDARD_INPUT:
        yield path
        return
    with standard_input() as spooled:
        yield spooled


def _suffix(path: Path) -> str:
    """Return the ending of a file's format, by its first bytes; text that is not JSON is CSV."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    packing = next((suffix for magic, suffix in PACKED_MAGIC.items() if head.startswith(magic)), "")
    if packing:
        with _unpacked(path, packing) as packed:
            head = packed.read(HEAD_BYTES)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((suffix for magic, suffix in MAGIC.items() if text.startswith(magic)), ".csv") + packing


def _opened_text(path: Path, fmt: Format) -> BinaryIO:
    packing = packing_of(path)
    if packing == ".zst":
        pyarrow(fmt)
    return _unpacked(path, packing) if packing else path.open("rb")


def _unpacked(path: Path, packing: str) -> BinaryIO:
    if packing == ".gz":
        return cast(BinaryIO, io.BufferedReader(_Packed(cast(BinaryIO, gzip.open(path)), "gzip")))
    import pyarrow as pa

    return cast(BinaryIO, io.BufferedReader(_Packed(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), "zstd")))


class _Packed(io.RawIOBase):
    """A packed file as it was before, which says in one sentence that it is cut off or another thing."""

    def __init__(self, plain: BinaryIO, packing: str) -> None:
        self._plain = plain
        self._packing = packing

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer`; raises 400 where the file is not packed so, or is cut off."""
        target = memoryview(buffer).cast("B")
        try:
            part = self._plain.read(len(target))
        except (EOFError, OSError, zlib.error) as error:
            raise ServiceError(
                400, "broken_table", f"The file is not {self._packing}, or is cut off: {error}."
            ) from error
        target[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Close the file."""
        self._plain.close()
        super().close()
