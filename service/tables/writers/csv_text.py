"""Rows as CSV: every cell is quoted that would not read back as it is."""

import csv
import io
from collections.abc import Sequence
from types import SimpleNamespace


def csv_text(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    """Return rows as lines that end with LF; a cell with a separator, a quote or a line end, CR included, is in quotes."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    written = text.getvalue()
    return written if "\r" not in written else _with_returns(rows, delimiter)


def _with_returns(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    """Write rows that have a CR, which the standard library only quotes where it is part of the line end."""
    lines: list[str] = []
    csv.writer(SimpleNamespace(write=lines.append), delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return "".join([line[:-2] + "\n" for line in lines])
