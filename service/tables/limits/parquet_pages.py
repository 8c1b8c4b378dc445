"""What the pages of a Parquet file unpack to, looked up in their headers before anything is unpacked.

The reader takes a page's size from the page's own header, whatever the footer says. A header is a struct in Thrift's
compact protocol: 2 is the size when unpacked, 3 the size in the file, 5 and 8 the headers of data pages, whose 1 is the
number of values. Source: the Parquet format's parquet.thrift and Thrift's compact protocol specification.
"""

from typing import Any, BinaryIO

from batchproof.service.errors import ServiceError
from batchproof.service.tables.limits.budget import Unpacking

MOST_PAGES = 100_000  # of one file: looking at a header takes some ten microseconds
HEADER_BYTES = (1 << 10, 1 << 20)  # read for a header at first, and where it holds long statistics
NESTED_BYTES = 16  # that a value of a list takes, at least
UNPACKED, PACKED, DATA_PAGES, VALUES = 2, 3, (5, 8), 1
TRUE, FALSE, BYTE, DOUBLE, BINARY, STRUCT = 1, 2, 3, 7, 8, 12


def check_pages(file: BinaryIO, metadata: Any, unpacking: Unpacking) -> None:
    """Look at the header of every page; raises 413, and OSError where pages are not what the footer says."""
    left = MOST_PAGES
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(place)
            is_nested = metadata.schema.column(place).max_repetition_level > 0
            left -= _check_chunk(file, chunk, unpacking, left, is_nested=is_nested)


def _check_chunk(file: BinaryIO, chunk: Any, unpacking: Unpacking, most: int, *, is_nested: bool) -> int:
    """Return the number of pages."""
    starts = [chunk.data_page_offset, *([chunk.dictionary_page_offset] if chunk.has_dictionary_page else [])]
    at = min((start for start in starts if start > 0), default=0)
    if not at:
        raise OSError("a column has no page")
    end = at + chunk.total_compressed_size
    pages = values = 0
    while at < end:
        header, size = _header(file, at)
        unpacking.add(_number(header, UNPACKED))
        values += sum(_values(header, kind) for kind in DATA_PAGES if kind in header)
        if is_nested:
            unpacking.check(values * NESTED_BYTES)
        at += size + _number(header, PACKED)
        pages += 1
        if pages > most:
            raise ServiceError(413, "too_many_pages", f"A Parquet file may have at most {MOST_PAGES} pages.")
    return pages


def _number(struct: dict[int, Any], field: int) -> int:
    """Return a number that a struct must have; raises OSError where it has none, or a negative one."""
    value = struct.get(field)
    if not isinstance(value, int) or value < 0:
        raise OSError("a page header has no valid size")
    return value


def _values(header: dict[int, Any], kind: int) -> int:
    page = header[kind]
    if not isinstance(page, dict):
        raise OSError("a page header is invalid")
    return _number(page, VALUES)


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """Return a page's header and how many bytes it has."""
    for length in HEADER_BYTES:
        file.seek(at)
        thrift = _Thrift(file.read(length))
        try:
            return thrift.struct(), thrift.at
        except IndexError:
            continue
    raise OSError("a page header is truncated or too long")


class _Thrift:
    """Values of the compact protocol; reading beyond the data raises IndexError."""

    def __init__(self, data: bytes) -> None:
        """Read `data` from its begin."""
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return {field: number or struct}; other kinds of field are passed over."""
        if depth > 8:
            raise OSError("a page header is nested too deeply")
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._number()
            found[field] = self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return None
        if BYTE < kind < DOUBLE:
            return self._number()
        if kind == STRUCT:
            return self.struct(depth + 1)
        sizes = {BYTE: 1, DOUBLE: 8}
        if kind not in (BINARY, *sizes):
            raise OSError("a page header has a field of an unknown type")
        length = sizes.get(kind) or self._varint()
        self.at += length
        return None

    def _number(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)

    def _varint(self) -> int:
        found = shift = 0
        while True:
            byte = self._byte()
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found
            if shift > 63:
                raise OSError("a page header contains an unterminated number")

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
        return byte
