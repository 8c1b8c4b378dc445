"""Whole columns get the numbers that their values get one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.errors import FeatureError
from batchproof.service.features.arrays import split
from batchproof.service.features.columns import encode_cells, encode_column, encode_lines
from batchproof.service.features.texts.text_cells import reader_of

SEEN = Feature.model_validate({"name": "seen", "kind": "date", "value_type": "date", "missing": True})
ADULT = Feature.model_validate({"name": "adult", "kind": "numeric", "value_type": "boolean", "missing": False})


def test_far_dates_are_divided_once() -> None:
    """Dates beyond 2^53 microseconds, of which float64 has no exact count, are rounded once, as their texts are."""
    dates = np.array(["9999-12-31T23:59:59.999999", "NaT", "0001-01-01T00:00:00.000001"], "datetime64[us]")
    encoded = encode_column(SEEN, dates)

    ticks = dates.astype(np.int64).tolist()
    assert encoded[[0, 2]].tolist() == [ticks[0] / 1_000_000, ticks[2] / 1_000_000]
    assert np.isnan(encoded[1])
    assert encode_column(SEEN, ["9999-12-31T23:59:59.999999"]).tolist() == [encoded[0]]


def test_a_truth_value_is_0_or_1() -> None:
    """A column of numbers for a feature of true and false holds 0 and 1; another number is refused with its row."""
    assert encode_column(ADULT, np.array([0.0, 1.0])).tolist() == [0.0, 1.0]
    with pytest.raises(FeatureError, match=r"^row 1, feature 'adult'"):
        encode_column(ADULT, np.array([0.0, 2.0]))


LENGTH = Feature.model_validate({"name": "length", "kind": "numeric", "value_type": "float", "missing": True})
WHOLE = LENGTH.model_copy(update={"value_type": "integer"})
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(repr)
LONG = st.from_regex(
    r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True, alphabet=st.characters(codec="ascii")
)
USUAL = st.sampled_from(["", "0", "-0.0", "1.5", "-2"])
ODD = st.sampled_from(
    [
        "NA",
        "0x1F",
        "1e400",
        "1_000",
        "\u0661",
        " 2 ",
        " ",
        "+.5",
        ".5",
        "5.",
        "00",
        "-0",
        "-0e3",
        "1e5",
        "x",
        "1,2",
        "1,",
        ",",
        "-",
    ]
)


@pytest.mark.parametrize("feature", [LENGTH, WHOLE, LENGTH.model_copy(update={"missing": False})], ids=str)
@given(
    st.lists(NUMBERS | LONG | USUAL, min_size=1, max_size=8)
    | st.lists(NUMBERS | LONG | USUAL | ODD, min_size=1, max_size=4)
)
def test_cells_get_the_numbers_that_their_values_get(feature: Feature, cells: list[str]) -> None:
    """A column of cells has the bits that its cells have one by one, by whatever path they are read; or both refuse it."""
    take = reader_of(feature)
    try:
        wanted = encode_column(feature, [take(cell) for cell in cells])
    except FeatureError:
        with pytest.raises(FeatureError):
            encode_cells(feature, take, cells)
    else:
        assert encode_cells(feature, take, cells).tobytes() == wanted.tobytes()


@given(st.lists(st.lists(NUMBERS | LONG | USUAL | ODD, min_size=2, max_size=2), min_size=1, max_size=4))
def test_whole_lines_get_the_numbers_of_their_cells(rows: list[list[str]]) -> None:
    """Lines that are read at once have the bits of their cells; with a cell that is no usual number they are not."""
    found = encode_lines([",".join(row) for row in rows], 2)
    if found is None:
        return

    columns = [encode_cells(LENGTH, reader_of(LENGTH), cells) for cells in zip(*rows, strict=True)]
    assert found.tobytes() == np.stack(columns, axis=1).tobytes()


@pytest.mark.parametrize("lines", [["1,2.5", "-3,1e5"], ["0.0,1"]])
def test_lines_of_numbers_are_read_at_once(lines: list[str]) -> None:
    """Lines that hold numbers in JSON's digits and nothing else are a matrix."""
    assert encode_lines(lines, 2).tolist() == [[float(cell) for cell in line.split(",")] for line in lines]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "lines",
    [["1,2", "3"], ["1,2,3"], ["1,"], ["1,x"], ["1,-0"], ["1,\u0661"], ["1],[2"], ["[1],2"], ["1,01"], ["1,1e400"]],
)
def test_other_lines_are_not(lines: list[str]) -> None:
    """A line of another width, an empty cell, a bracket, and what JSON has no number for are left to the precise reading."""
    assert encode_lines(lines, 2) is None


def test_rows_are_taken_from_every_kind() -> None:
    """Rows chosen by number or by slice are the same rows of each array; a kind that is not there stays away."""
    table = np.array([[1.5], [2.5], [3.5]])
    arrays = split(Signature(inputs=(LENGTH,), target="y"), table)
    assert arrays.categorical is None
    chosen = arrays.take(np.array([2, 0]))
    assert (chosen.numeric.tolist(), chosen.categorical) == ([[3.5], [1.5]], None)
    assert arrays.take(slice(1, None)).numeric.tolist() == [[2.5], [3.5]]


def test_arrays_lie_row_by_row() -> None:
    """Both inputs are in the order that engines read: others are copied in every run."""
    code = {"kind": "categorical", "value_type": "string", "missing": False, "categories": ["a"]}
    species = [Feature.model_validate({"name": name, **code}) for name in ("first", "second")]
    inputs = (species[0], LENGTH, species[1], ADULT)
    arrays = split(Signature(inputs=inputs, target="y"), np.zeros((5, 4)))
    assert [array.flags.c_contiguous for array in arrays] == [True, True]
