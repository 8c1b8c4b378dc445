"""Sentences behind a prefix."""

import pytest

from batchproof.service.errors import behind, ended


@pytest.mark.parametrize(
    "sentence, wanted",
    [
        ("Line 4 is not CSV.", "a.csv: line 4 is not CSV."),
        ("A record batch is too large.", "a.csv: a record batch is too large."),
        ("JSON is nested too deep.", "a.csv: JSON is nested too deep."),
        ("Content-Type names no table.", "a.csv: Content-Type names no table."),
        ("UTF-16 is not taken.", "a.csv: UTF-16 is not taken."),
        ("the table is empty.", "a.csv: the table is empty."),
        ("There is none. Did you mean 'b'?", "a.csv: there is none. Did you mean 'b'?"),
    ],
)
def test_a_sentence_goes_on_behind_its_prefix(sentence: str, wanted: str) -> None:
    """It begins small, unless its first word is a name."""
    assert behind("a.csv", sentence) == wanted


@pytest.mark.parametrize(
    "sentence, wanted",
    [
        ("Rows.csv is a folder", "Rows.csv is a folder."),
        ("It is over.", "It is over."),
        ("Did you mean 'b'?", "Did you mean 'b'?"),
    ],
)
def test_a_sentence_ends_once(sentence: str, wanted: str) -> None:
    """With a full stop, or with the question that it is."""
    assert ended(sentence) == wanted
