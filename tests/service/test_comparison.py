"""Comparison by bits: NaNs, zeros and single last places count, at every size, position and filling."""

import numpy as np
import pytest

from service.comparison import alone, compare, cut, filled, mixed, row_bytes, sizes_for, ulps_between
from service.runner import Runner
from tests.varying import Stand, rows_like

PROMISED = {*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257}


@pytest.mark.parametrize("run_rows", [1, 16, 40, 512])
def test_sizes_are_the_promised_ones(run_rows: int) -> None:
    """Every size to 17, the neighbours of 32 to 256, the largest run and one row more, which is cut."""
    sizes = sizes_for(run_rows)

    assert PROMISED | {run_rows, run_rows + 1} == set(sizes)
    assert sizes == tuple(sorted(set(sizes)))
    assert sizes[0] == 1


@pytest.mark.parametrize("size", range(1, 200, 7))
def test_cut_keeps_all_rows_in_order(size: int) -> None:
    """The requests that a batch is joined from are its rows, in order, none empty."""
    pieces = cut(np.arange(size))

    assert np.array_equal(np.concatenate(pieces), np.arange(size))
    assert all(len(piece) for piece in pieces)


def test_odd_batches_are_joined_from_several_requests() -> None:
    """The code that joins and splits takes part."""
    assert [len(piece) for piece in cut(np.arange(17))] == [1, 2, 3, 5, 6]


def test_each_row_fills_a_batch() -> None:
    """Every probe row is the whole of some batch of several rows."""
    batches = list(filled(sizes_for(64), 10))

    assert [set(batch.tolist()) for batch in batches] == [{row} for row in range(10)]
    assert all(len(batch) > 1 for batch in batches)


@pytest.mark.parametrize(
    "left, right",
    [(0.0, -0.0), (1.0, np.nextafter(np.float32(1), np.float32(2))), (np.nan, -np.nan), (1.0, np.nan)],
)
def test_bits_are_what_counts(left: float, right: float) -> None:
    """Zeros of different sign, neighbouring floats and NaNs of different bits differ."""
    one, other = (np.array([[value]], dtype=np.float32) for value in (left, right))
    if np.isnan(left) and np.isnan(right):
        other = (one.view(np.uint32) ^ 1).view(np.float32)

    assert (row_bytes(one) != row_bytes(other)).any()
    assert np.array_equal(row_bytes(one), row_bytes(one.copy()))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulps_count_the_floats_between(dtype: type) -> None:
    """The distance is the number of steps to the neighbour, across zero too."""
    one = np.array([1.0], dtype)
    tiny = np.finfo(dtype).smallest_subnormal

    assert ulps_between(one, np.nextafter(np.nextafter(one, dtype(2)), dtype(2))) == 2
    assert ulps_between(np.array([-tiny]), np.array([tiny])) == 2
    assert ulps_between(np.array([3]), np.array([7])) == 4


@pytest.mark.parametrize("position", [0, 4, 16])
def test_one_changed_row_is_found_at_its_position(position: int) -> None:
    """The first difference names output, size, position and row; the tally counts one row."""

    def fault(x: np.ndarray) -> np.ndarray | float:
        changed = np.zeros_like(x)
        if len(x) == 17:
            changed[position] = 1.0
        return changed

    runner = Runner(Stand(fault), 64)
    probes = rows_like(3)(0)
    tally = compare(runner, probes, alone(runner, probes), (b for size in (16, 17, 18) for b in mixed(size, 40, 1)))

    assert tally.first is not None
    assert (tally.first.output, tally.first.batch_rows, tally.first.position) == ("y", 17, position)
    assert tally.first.probe == (position + 7) % 40
    assert tally.first.alone != tally.first.batched
    assert (dict(tally.compared), dict(tally.changed)) == ({16: 16, 17: 17, 18: 18}, {17: 1})
