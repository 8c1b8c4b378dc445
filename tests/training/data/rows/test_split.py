"""The split: every row in one part, classes in their shares, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.training.data.rows.split import draw, named
from batchproof.training.data.tables.table_error import TableError


@given(st.lists(st.integers(0, 4), min_size=10, max_size=200), st.integers(0, 9))
def test_every_row_once(strata: list[int], seed: int) -> None:
    """Each row is in exactly one part, no part is empty, and every class is in the training rows."""
    codes = np.asarray(strata)
    parts = draw(codes, seed, 0.2, 0.2)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(codes)))
    assert all(len(part) for part in parts)
    assert set(codes[parts.train]) == set(strata)


def test_shares() -> None:
    """A class of 10 % is 10 % of each part."""
    codes = np.repeat([0, 1], [900, 100])
    parts = draw(codes, 0, 0.2, 0.2)
    assert [len(part) for part in parts] == [600, 200, 200]
    assert [int(codes[part].sum()) for part in parts] == [60, 20, 20]


def test_seeds() -> None:
    """The same seed gives the same split, another seed another."""
    codes = np.zeros(50, np.int64)
    np.testing.assert_array_equal(draw(codes, 3, 0.2, 0.2).test, draw(codes, 3, 0.2, 0.2).test)
    assert draw(codes, 3, 0.2, 0.2).test.tolist() != draw(codes, 4, 0.2, 0.2).test.tolist()


def test_without_test() -> None:
    """A share of 0 leaves the test empty, for tables that bring their own."""
    assert not len(draw(np.zeros(20, np.int64), 0, 0.2, 0.0).test)


def test_too_few() -> None:
    """A table too small to measure on is refused."""
    with pytest.raises(TableError, match=r"9 rows are too few to train and test on: at least 10 are needed\."):
        draw(np.zeros(9, np.int64), 0, 0.2, 0.2)


def test_every_class_once() -> None:
    """Where every class has one row nothing is left to validate on."""
    with pytest.raises(TableError, match="every class has one row"):
        draw(np.arange(12), 0, 0.2, 0.2)


def test_named() -> None:
    """A column may say the part of each row, in the usual words."""
    parts = named(["Train", "train", " val", "TEST"], "part")
    assert [part.tolist() for part in parts] == [[0, 1], [2], [3]]


@pytest.mark.parametrize(
    "labels, sentence",
    [
        (["train", "train", "tset"], "row 2 has 'tset' in 'part': use train, validation or test."),
        (["train", None], "row 1 has None in 'part'"),
        (["train", "train", "val"], "column 'part' marks too few test rows: 0."),
    ],
)
def test_named_refusals(labels: list[str | None], sentence: str) -> None:
    """A word that names no part, and a part without rows, are refused."""
    with pytest.raises(TableError, match=sentence):
        named(labels, "part")
