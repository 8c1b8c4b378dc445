"""CSV that is written reads back as it was, whatever the cells hold."""

import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.features.texts.csv_records import Records
from batchproof.service.tables.writers.csv_text import csv_text

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\x1a"), max_size=4) | st.sampled_from(
    ["a\rb", "\r", "a\nb", "a\r\nb", 'say "x"', " a", "", "a,b;c\td|e"]
)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=4), st.sampled_from(",;\t|"))
def test_what_is_written_is_read_again(rows: list[list[str]], delimiter: str) -> None:
    """Line ends of every kind, quotes, separators and blanks stay in their cells."""
    table = [["a", "b", "c"], *rows]
    written = csv_text(table, delimiter).encode()

    assert [cells for _, cells in Records(io.BytesIO(written), delimiter)] == table


@pytest.mark.parametrize("cell", ["c\rd", "\r", "c\r\nd"])
def test_other_readers_read_it_too(cell: str) -> None:
    """Pandas takes a lone CR outside of quotes for the end of a line, as most readers do."""
    written = csv_text([["x", "y"], [cell, "1"]], ",")
    found = pd.read_csv(io.StringIO(written, newline=""))

    assert found.shape == (1, 2)
    assert written.endswith("\n")
    assert not written.endswith("\r\n")
