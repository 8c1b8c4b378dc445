"""Tables opened: plain files, packed ones, folders of Parquet files, standard input, and the same in object stores."""

import gzip
import io
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast, overload

from batchproof.installation import hint
from batchproof.service.configuration.address import Address, AddressError, Root, root_of
from batchproof.service.errors import ServiceError
from batchproof.service.stores.store import StoreError, is_pattern
from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, BY_SUFFIX, PARQUET, Format, pyarrow

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from batchproof.service.stores.object_path import ObjectPath

TablePath: TypeAlias = "Path | ObjectPath"

ARROW_FILE_MAGIC = b"ARROW1"
STANDARD_INPUT = "-"
PACKED = (".gz", ".zst")  # endings of packed text tables
READ_BYTES = 1 << 18  # of a text at a time
HEAD_BYTES = 64  # of standard input, which say its format
PACKED_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
MAGIC = {b"PAR1": ".parquet", ARROW_FILE_MAGIC: ".arrow", b"\xff\xff\xff\xff": ".arrows", b"{": ".jsonl"}


class SourceError(Exception):
    """A table that cannot be opened; the text is one sentence without its full stop."""


def table_path(root: Root | str) -> TablePath:
    """Return the path that a text or an address means, on this machine or in an object store; raises SourceError."""
    try:
        root = root_of(root) if isinstance(root, str) else root
        if isinstance(root, Path):
            return root
        from batchproof.service.stores.object_path import object_path

        return object_path(root)
    except (AddressError, StoreError) as error:
        raise SourceError(str(error)) from error
    except ModuleNotFoundError as error:
        extra = "hub" if error.name == "huggingface_hub" else "tables"
        raise SourceError(f"{root} needs {error.name}, which is not installed: {hint(extra)}") from error


def format_of(path: TablePath) -> Format:
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


def packing_of(path: TablePath) -> str:
    """Return the ending that says how the file is packed, `.gz` or `.zst`, or nothing."""
    suffix = path.suffix.lower()
    return suffix if suffix in PACKED else ""


def open_source(path: TablePath) -> tuple[BinaryIO, Format]:
    """Open a file, unpacked, and by Arrow where it is Arrow's; an Arrow stream may have the ending of an Arrow file."""
    fmt = format_of(path)
    if not fmt.needs_pyarrow:
        return _opened_text(path, fmt), fmt
    arrow = pyarrow(fmt)
    file = arrow.OSFile(str(path)) if isinstance(path, Path) else path.open_random()
    if fmt == ARROW_FILE:
        fmt = ARROW_FILE if file.read(len(ARROW_FILE_MAGIC)) == ARROW_FILE_MAGIC else ARROW_STREAM
        file.seek(0)
    return cast(BinaryIO, file), fmt


@overload
def parquet_files(folder: Path) -> Sequence[Path]: ...
@overload
def parquet_files(folder: "ObjectPath") -> Sequence["ObjectPath"]: ...
@overload
def parquet_files(folder: TablePath) -> Sequence[TablePath]: ...
def parquet_files(folder: TablePath) -> Sequence[TablePath]:
    """Return the Parquet files in and below a folder, in the order of their names; hidden ones and `_names` are not tables.

    Raises OSError for a folder that cannot be listed: its rows would be lost.
    """
    return [path for path in visible_files(folder) if path.suffix.lower() in PARQUET.suffixes]


@overload
def visible_files(folder: Path) -> Sequence[Path]: ...
@overload
def visible_files(folder: "ObjectPath") -> Sequence["ObjectPath"]: ...
@overload
def visible_files(folder: TablePath) -> Sequence[TablePath]: ...
def visible_files(folder: TablePath) -> Sequence[TablePath]:
    """Return the files in and below a folder in the order of their names, but hidden ones and `_names`; raises OSError."""
    if not isinstance(folder, Path):
        return [path for path in folder.below() if not any(part[0] in "._" for part in path.relative_to(folder).parts)]
    files = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name[0] not in "._"]
        files += [Path(parent, name) for name in names if name[0] not in "._"]
    return [path for path in sorted(files) if path.is_file()]


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
def source_path(root: Root) -> Iterator[Path]:
    """Yield the path of a table on this machine: of `-` and of an address that of a temporary copy."""
    if isinstance(root, Address):
        table = table_path(root)
        assert not isinstance(table, Path), "an address is not on this machine"
        with _fetched(table) as copy:
            yield copy
    elif str(root) == STANDARD_INPUT:
        with standard_input() as spooled:
            yield spooled
    else:
        yield root


@contextmanager
def _fetched(table: "ObjectPath") -> Iterator[Path]:
    """Copy a table, a file or the parts of one, to a temporary folder, and yield its path, or its pattern, there."""
    with TemporaryDirectory(prefix="batchproof-") as folder:
        copy = Path(folder, table.name)
        if table.is_file():
            table.download(copy)
        elif table.is_dir():
            for part in parquet_files(table) or visible_files(table):
                part.download(copy / part.relative_to(table))
        elif is_pattern(table.path):
            copy = Path(folder, table.path)
            for part in _matches(table):
                part.download(Path(folder, part.path))
        else:
            raise SourceError(f"there is nothing at {table}")
        yield copy


def _matches(pattern: "ObjectPath") -> list["ObjectPath"]:
    """Return what a pattern matches, in words of its address where that is nothing."""
    try:
        parts = pattern.matches()
    except StoreError as error:
        raise SourceError(str(error)) from error
    if not parts:
        raise SourceError(f"no file matches {pattern}")
    return parts


def _suffix(path: Path) -> str:
    """Return the ending of a file's format, by its first bytes; text that is not JSON is CSV."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    packing = _by_magic(head, PACKED_MAGIC)
    if packing:
        with _unpacked(path, packing) as packed:
            head = packed.read(HEAD_BYTES)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return (_by_magic(text, MAGIC) or ".csv") + packing


def _by_magic(head: bytes, endings: Mapping[bytes, str]) -> str:
    """Return the ending that the first bytes of a file are of, or nothing."""
    return next((ending for magic, ending in endings.items() if head.startswith(magic)), "")


def _opened_text(path: TablePath, fmt: Format) -> BinaryIO:
    packing = packing_of(path)
    if isinstance(path, Path) and not packing:
        _check_is_text(path)
    if packing == ".zst":
        pyarrow(fmt)
    if packing:
        return _unpacked(path, packing)
    return path.open("rb", READ_BYTES) if isinstance(path, Path) else _buffered(path.open_stream(), "")


def _check_is_text(path: Path) -> None:
    """Raise 400 for a file that is something else than its ending says, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    packing = _by_magic(head, PACKED_MAGIC)
    if packing:
        message = f"The file is compressed: give it the ending {path.suffix}{packing}."
        raise ServiceError(400, "broken_table", message)
    suffix = _by_magic(head, MAGIC)
    if suffix and BY_SUFFIX[suffix].needs_pyarrow:
        raise ServiceError(
            400, "broken_table", f"The file is no text: give it the ending {suffix}, which its first bytes are of."
        )


def _unpacked(path: TablePath, packing: str) -> BinaryIO:
    if packing == ".gz":
        packed = path.open("rb") if isinstance(path, Path) else path.open_stream()
        return _buffered(gzip.open(packed), "gzip", packed)
    import pyarrow as pa

    packed = pa.OSFile(str(path)) if isinstance(path, Path) else path.open_stream()
    return _buffered(pa.CompressedInputStream(packed, "zstd"), "zstd")


def _buffered(plain: Any, packing: str, *below: Any) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Unbuffered(plain, packing, below), READ_BYTES))


class _Unbuffered(io.RawIOBase):
    """What `plain` reads; a packed file says in one sentence that it is cut off or another thing."""

    def __init__(self, plain: Any, packing: str, below: Sequence[Any]) -> None:
        self._plain, self._packing = plain, packing
        self._below = below  # what `plain` reads from and does not close

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer`; raises 400 where the file is not packed so, or is cut off."""
        target = memoryview(buffer).cast("B")
        try:
            part = self._plain.read(len(target))
        except (EOFError, OSError, zlib.error) as error:
            if not self._packing:
                raise
            raise ServiceError(
                400, "broken_table", f"The file is not {self._packing}, or is cut off: {error}."
            ) from error
        target[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Close the file."""
        for file in (self._plain, *self._below):
            file.close()
        super().close()
