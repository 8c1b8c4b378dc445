"""Records of a text table in UTF-8: cells, separated by the sign that the first line shows, and each record's line.

Training and scoring both read their text tables with this reader. A line ends with LF, CR LF or CR.
"""

import codecs
import csv
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import BinaryIO, NamedTuple

from batchproof.service.errors import ServiceError

SIGNS = ",;\t|"  # that may separate the cells of CSV; where two are as common, the first one does
MAX_LINE_BYTES = 1 << 20
HEAD_CHARACTERS = 1 << 17  # of names that are searched for the sign: no cell may be longer either
QUOTED = re.compile(r'(^|[,;\t|])"(?:[^"]|"")*+"')
UNCLOSED = re.compile(r'(?:^|[,;\t|])"')
INVALID = re.compile("[\udc80-\udcff]")  # what a byte that is not UTF-8 is decoded to
END_OF_FILE = b"\x1a"  # what programs of DOS write behind a text
LONGEST_BLANK = len(b'""\r\n')  # a line that is blank without its quotes
ONLY_WINDOWS = re.compile(rb"[\x80-\x9f]")  # letters and quotation marks in cp1252, control characters in latin1


Record = tuple[int, list[str]]  # the line that it begins at, and its cells: of a row, or the names of the columns


class Plain(NamedTuple):
    """Rows whose cells are what stands between the separators."""

    first: int  # the line of the first one; the others follow it
    rows: int
    text: bytes  # in UTF-8: each row as it is written, without quotes, and LF

    @property
    def lines(self) -> list[str]:
        """Return each row without its end."""
        return self.text.decode().split("\n")[:-1]


class Records:
    """The records of a file that are not blank, the header among them."""

    def __init__(self, file: BinaryIO, signs: str, *, has_header: bool = True) -> None:
        """Find which of `signs` separates the cells; raises ServiceError as iterating does.

        Without a header the first record is a row: blanks that follow its separators are part of its cells.
        """
        self._lines = _Lines(file)
        lines = iter(self._lines)
        head = _head(lines)
        self.delimiter = delimiter_of("".join(head), signs)
        self._header: Sequence[str] | None = None if has_header else ()
        has_blanks = has_header and _has_blanks("".join(head), self.delimiter)
        self._is_parsed = has_blanks  # whether the parser must see every line
        self._needless = _needless_quotes(self.delimiter)
        self._passed = 0  # lines that the parser did not see
        self._reader = csv.reader(
            chain(head, lines), delimiter=self.delimiter, skipinitialspace=has_blanks, strict=True
        )

    def __iter__(self) -> Iterator[Record]:
        """Yield each record; raises 400 with the line, and the column where it is known, of what is not CSV in UTF-8."""
        lines, reader, header = self._lines, self._reader, self._header
        line = self._next_line
        try:
            for cells in reader:
                if lines.fault is not None:
                    lines.fault.check(cells, header)
                if cells:
                    header = self._header = cells if header is None else header
                    yield line, cells
                line = self._next_line
        except csv.Error as error:
            fault = self._lines.fault
            raise broken(line, _in_words(error)) if fault is None else fault.refusal("") from error

    def plain(self, most: int) -> Plain | None:
        """Return the next rows, `most` at most, if their lines need no parser; None where they do, and at the end.

        They need none where no cell has quotes, or only such as it could do without.

        It is for between two records, the header behind it. What it does not return, iterating yields.
        """
        first = self._next_line
        rows, text = (0, b"") if self._is_parsed else self._lines.plain(most, self._needless)
        self._passed += rows
        return Plain(first, rows, text) if rows else None

    @property
    def _next_line(self) -> int:
        return self._reader.line_num + self._passed + 1


def delimiter_of(head: str, signs: str = SIGNS) -> str:
    """Return the one of `signs` that is commonest in the column names `head`, not counting what is in quotes.

    If two are equally common, or none occurs, it is the first of them.
    """
    return max(signs, key=_bare(head).count)


def column_names(header: Sequence[str], features: Collection[str] = ()) -> list[str]:
    """Return the names of a header without blanks around them, as training reads them.

    A name of `features` stays as it is: a model may have been trained with a name that has blanks.
    """
    return [name if name in features else name.strip() for name in header]


def _has_blanks(head: str, delimiter: str) -> bool:
    """Return whether a blank follows every separator of the header: it is not part of the cells, nor of their quotes."""
    names = _bare(head).strip("\r\n").split(delimiter)
    return len(names) > 1 and all(name.startswith(" ") for name in names[1:])


def broken(line: int, why: str) -> ServiceError:
    """Return 400 for a text that is not CSV."""
    return ServiceError(400, "broken_csv", f"Line {line} is not CSV in UTF-8: {why}.")


def encoding_advice(raw: bytes) -> str:
    """Return what to do with bytes that are not UTF-8; `raw` is the line that they are in."""
    name = "cp1252" if ONLY_WINDOWS.search(raw) else "latin1"
    return f"convert the table with iconv -f {name} -t utf-8"


def _in_words(error: csv.Error) -> str:
    """Return what the standard library says of a broken record, with what would be right."""
    text = str(error)
    if "expected after" in text:
        return 'text follows a closing quote; a quote within quotes is written ""'
    if "unexpected end of data" in text:
        return "a quote is opened and never closed"
    return f"a cell has more than {csv.field_size_limit()} characters" if "field limit" in text else text


class _Fault(NamedTuple):
    """A line that is not UTF-8."""

    line: int
    raw: bytes
    start: int  # of the first byte that is not UTF-8

    def check(self, cells: Sequence[str], header: Sequence[str] | None) -> None:
        """Refuse the record that the line is in, of a header where `header` is None; columns beyond it have no name."""
        column = next((place for place, cell in enumerate(cells) if INVALID.search(cell)), None)
        if column is None:
            return
        if header is None:
            where = f"name {column + 1} of the columns"
        else:
            where = f"column {header[column]!r:.200}" if column < len(header) else f"cell {column + 1}"
        raise self.refusal(f", {where},")

    def refusal(self, where: str) -> ServiceError:
        """Return 400 that says what to do."""
        return ServiceError(
            400,
            "broken_csv",
            f"Line {self.line}{where} is not UTF-8 (byte 0x{self.raw[self.start]:02x}): {encoding_advice(self.raw)}, or from "
            "the encoding that it has.",
        )


class _Lines:
    """The lines of a file as text. The bytes of one that is not UTF-8 are marked: its column is not known yet."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._seen: deque[bytes] = deque()  # lines that were read and need the parser
        self._are_whole = True  # whether each ends with LF or CR LF, and is no longer than a cell may be
        self._number = 0
        self.fault: _Fault | None = None  # the first one

    def __iter__(self) -> Iterator[str]:
        """Yield the lines with their ends; raises 400 for one that is too long, and for UTF-16."""
        encoding = "utf-8-sig"  # only the first line can begin with a byte order mark
        for line in self._split():
            self._number = number = self._number + 1
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise ServiceError(400, "broken_csv", "The table is UTF-16: convert it with iconv -f utf-16 -t utf-8.")
            if len(line) >= MAX_LINE_BYTES:
                raise broken(number, f"a line has more than {MAX_LINE_BYTES - 1} bytes")
            try:
                text = line.removesuffix(END_OF_FILE).decode(encoding)
            except UnicodeDecodeError as error:
                self.fault = self.fault or _Fault(number, line, error.start)
                text = line.decode(encoding, "surrogateescape")
            yield text
            encoding = "utf-8"

    def plain(self, most: int, needless: re.Pattern[bytes]) -> tuple[int, bytes]:
        """Return the number of the next lines, `most` at most, and their text, each with LF, without `needless` quotes.

        There are none where one of them has another quote or is blank, not UTF-8, or longer than a cell may be.
        """
        if not self._are_whole:
            return 0, b""
        read = self._read if self._seen else partial(self._file.readline, MAX_LINE_BYTES)  # a call less for each line
        raw = list(islice(iter(read, b""), most))
        whole = b"".join(raw)
        has_returns = b"\r" in whole and whole.count(b"\r") != whole.count(b"\r\n")
        self._are_whole = not has_returns and max(map(len, raw), default=0) < csv.field_size_limit()
        text = _plain_text(whole, needless) if self._are_whole else b""
        if min(map(len, raw), default=0) <= LONGEST_BLANK and (text.startswith(b"\n") or b"\n\n" in text):
            text = b""
        if not text:
            self._seen.extendleft(reversed(raw))  # in front of those that were not taken now
            return 0, b""
        self._number += len(raw)
        return len(raw), text

    def _read(self) -> bytes:
        return self._seen.popleft() if self._seen else self._file.readline(MAX_LINE_BYTES)

    def _split(self) -> Iterator[bytes]:
        """Yield lines with their ends; one of MAX_LINE_BYTES or more is cut off."""
        rest = b""  # of a line that CR may have begun
        while line := self._read():
            if not rest and line.count(b"\r") == line.endswith(b"\r\n"):
                yield line
                continue
            self._are_whole = False
            *whole, rest = (rest + line).splitlines(keepends=True)
            yield from whole
            if rest.endswith(b"\n") or len(rest) >= MAX_LINE_BYTES:
                yield rest
                rest = b""
        if rest:
            yield rest


def _plain_text(whole: bytes, needless: re.Pattern[bytes]) -> bytes:
    """Return lines as UTF-8 with LF, without `needless` quotes; nothing where one of them is for the parser."""
    if END_OF_FILE in whole or not _is_utf8(whole):
        return b""
    if b'"' in whole:
        if 2 * len(needless.findall(whole)) != whole.count(b'"'):
            return b""
        whole = whole.replace(b'"', b"")
    text = whole.replace(b"\r\n", b"\n") if b"\r" in whole else whole
    return text if text.endswith(b"\n") else text + b"\n"


def _is_utf8(text: bytes) -> bool:
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


def _needless_quotes(delimiter: str) -> re.Pattern[bytes]:
    """Return a pattern of whole cells in quotes that hold no quote, separator or line end."""
    sign = re.escape(delimiter)
    # Quotes come first, since the search for one byte is the fastest.
    return re.compile(rf'"(?<![^{sign}\n]")[^"{sign}\r\n]*+"(?![^{sign}\r\n])'.encode())


def _head(lines: Iterator[str]) -> list[str]:
    """Take the lines to the end of the first record that is not blank: a name in quotes may have several."""
    head_lines: list[str] = []
    characters, opening = 0, ""
    for line in lines:
        head_lines.append(line)
        characters += len(line)
        opening = '"' if UNCLOSED.search(_bare(opening + line)) else ""  # of the quote that continues in the next line
        if characters > HEAD_CHARACTERS or (line.strip("\r\n") and not opening):
            break
    return head_lines


def _bare(head: str) -> str:
    return QUOTED.sub(r"\1", head.lstrip("\r\n"))
