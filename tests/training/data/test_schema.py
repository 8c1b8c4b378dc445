"""Columns to features, by their training rows; and rows to the arrays that the service would make of them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchproof.service.features.columns import encode_columns
from batchproof.training.data import advice
from batchproof.training.data.column import Column
from batchproof.training.data.columns import typed
from batchproof.training.data.schema import Schema, encode, infer, useless
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import target_of

ROWS = 60


def column(name: str, values: list[Any], wanted: Any = None) -> Column:
    """Return a typed column."""
    found = typed(name, pa.chunked_array([pa.array(values)]), wanted)
    assert found is not None
    return found


def schema(*columns: Column, train: int = ROWS, rare_rows: int = 2, keep: tuple[str, ...] = ()) -> Schema:
    """Infer with the first `train` rows as training rows."""
    target = target_of(column("y", [row % 2 for row in range(ROWS)]))
    return infer(columns, target, np.arange(train), rare_rows=rare_rows, keep=keep)


def varied(name: str = "x") -> Column:
    """Return a numeric column that stays."""
    return column(name, [float(row * row % 17) for row in range(ROWS)])


def test_training_rows_decide() -> None:
    """Range and categories come from training rows; whether null is taken, from all rows."""
    numbers = column("n", [float(row) for row in range(ROWS - 1)] + [None])
    words = column("w", ["a", "b"] * (ROWS // 2 - 1) + ["c", "c"])
    n, w = schema(numbers, words, train=40).signature.inputs
    assert (n.range, n.missing) == ((0.0, 39.0), True)
    assert (w.categories, w.missing) == (("a", "b"), False)


def test_rare_categories_merge() -> None:
    """A category with fewer training rows than asked is not listed, and gets the code of unseen ones."""
    words = column("w", ["a"] * 30 + ["b"] * 29 + ["rare"])
    found = schema(words)
    assert found.signature.inputs[0].categories == ("a", "b")
    codes = encode(found.signature, [words], np.asarray([0, 30, 59])).categorical
    assert codes is not None
    assert codes[:, 0].tolist() == [0, 1, 3]


def test_the_services_own_codes() -> None:
    """Encoding whole columns gives, bit for bit, what the service makes of the same values."""
    random = np.random.default_rng(0)
    values: dict[str, list[Any]] = {
        "f": [None if row % 7 == 0 else row / 3 for row in range(ROWS)],
        "i": random.integers(0, 4, ROWS).tolist(),
        "k": [None if row % 5 == 0 else int(code) for row, code in enumerate(random.integers(0, 4, ROWS))],
        "b": [bool(row % 3) for row in range(ROWS)],
        "s": [None if row % 11 == 0 else "pqr"[row % 3] for row in range(ROWS)],
        "d": [f"2024-01-{row % 28 + 1:02d}" for row in range(ROWS)],
    }
    columns = [column(name, given, "categorical" if name == "k" else None) for name, given in values.items()]
    signature = schema(*columns).signature
    found, wanted = encode(signature, columns, np.arange(ROWS)), encode_columns(signature, values)
    np.testing.assert_array_equal(found.numeric, wanted.numeric)
    np.testing.assert_array_equal(found.categorical, wanted.categorical)


@pytest.mark.parametrize(
    "values, reason",
    [
        ([3.5] * ROWS, "constant"),
        (["same"] * ROWS, "constant"),
        ([f"name {row}" for row in range(ROWS)], "like an identifier: 60 distinct values in 60 rows"),
        (list(range(1000, 1000 + ROWS)), "like a row number: every value once, in order"),
        ([float(row) for row in range(ROWS)], None),
        ([row * row for row in range(ROWS)], None),
        (["a", "b"] * (ROWS // 2), None),
        ([None, 1.0] * (ROWS // 2), None),
    ],
)
def test_useless_columns(values: list[Any], reason: str | None) -> None:
    """Constant columns, names of rows and row numbers are dropped; numbers that merely differ are not."""
    assert useless(column("c", values)) == reason


def test_kept_and_dropped() -> None:
    """A dropped column has its line, and --keep holds on to it."""
    constant = column("c", [1.0] * ROWS)
    found = schema(varied(), constant)
    assert [drop.name for drop in found.dropped] == ["c"]
    assert found.lines([varied(), constant])[-1] == "  c  dropped      constant"
    assert not schema(varied(), constant, keep=("c",)).dropped


def test_rare_only() -> None:
    """A text column of which no category is seen often enough is dropped."""
    words = column("w", [f"word {row // 2}" for row in range(ROWS)])
    assert schema(varied(), words, rare_rows=5).dropped[0].reason == (
        "no category occurs in 5 training rows, the most frequent one in 2"
    )


def test_nothing_left() -> None:
    """A table without a usable column is refused."""
    with pytest.raises(TableError, match=r"every column was dropped: name one in --keep to keep it\."):
        schema(column("c", [1.0] * ROWS))


def test_lines() -> None:
    """Each column is shown with its kind, its range or categories, and its missing share."""
    columns = [
        column("size", [None, *range(1, ROWS)]),
        column("word", ["a", "b", "c", "d", "e", "f"] * 10),
        column("day", [f"2024-01-{row % 28 + 1:02d}" for row in range(ROWS)]),
    ]
    assert schema(*columns, keep=("size",)).lines(columns) == [
        "  size  numeric      integer 1 to 59, 1.7% missing",
        "  word  categorical  6 categories: a, b, c, d, e, …",
        "  day   date         2024-01-01T00:00:00 to 2024-01-28T00:00:00",
    ]


def test_categories_with_commas_are_quoted() -> None:
    """A list of categories shows where each begins and ends; those that are plain words or phrases stay bare."""
    words = ["a, b", 'say "c"', " d", "e f", "…"]
    columns = [column("word", words * (ROWS // len(words)))]
    assert schema(*columns).lines(columns) == [
        r'''  word  categorical  5 categories: " d", "a, b", e f, "say \"c\"", "…"'''
    ]


def test_a_dropped_column_has_a_hint() -> None:
    """Texts that look like names of rows are dropped with the flags that keep them, or that say what they are."""
    days = column("when", [f"{1 + row % 12}/{1 + row % 11}/{2000 + row}" for row in range(ROWS)])
    found = schema(days, varied())
    assert found.dropped[0].reason.startswith("like an identifier: ")
    unsettled, left_out = advice.on_columns(found, [days, varied()])
    assert unsettled.endswith("--date-format when=%m/%d/%Y says which.")
    assert left_out.startswith("column 'when' is left out: like an identifier")
    assert left_out.endswith("--keep when keeps it.")
