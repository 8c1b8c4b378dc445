"""Comparison by bits: NaNs, zeros and single last places count, whatever the batch."""

from collections.abc import Sequence

import numpy as np
import pytest

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.runner import Feeds, Runner
from batchproof.service.invariance.bitwise import alone, compare, row_bytes, ulps_between
from tests.varying import Stand, rows_like


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
    batches = [(np.arange(size) + 7) % 40 for size in (16, 17, 18)]
    tally = compare(runner, probes, alone(runner, probes), batches)

    assert tally.first is not None
    assert (tally.first.output, tally.first.batch_rows, tally.first.position) == ("y", 17, position)
    assert tally.first.probe == (position + 7) % 40
    assert tally.first.alone != tally.first.batched
    assert (dict(tally.compared), dict(tally.changed)) == ({16: 16, 17: 17, 18: 18}, {17: 1})


def test_other_type_is_a_difference() -> None:
    """An output that comes back in another type is not the same, even where its numbers are."""

    class Widened(Runner):
        """A runner that gives several rows as float64."""

        def run(self, requests: Sequence[Feeds]) -> list[Outputs]:
            """Run, and widen."""
            outputs = super().run(requests)
            return [{"y": one["y"].astype(np.float64 if len(one["y"]) > 1 else np.float32)} for one in outputs]

    runner = Widened(Stand(), 64)
    probes = rows_like(3)(0)

    tally = compare(runner, probes, alone(runner, probes), [np.arange(1), np.arange(4)])

    assert (dict(tally.compared), dict(tally.changed)) == ({1: 1, 4: 4}, {4: 4})
    assert tally.ulps == {"y": np.finfo(np.float64).max}


def test_only_the_output_that_differs_is_counted() -> None:
    """Of several outputs, one that keeps its bits has no distance, and the rows are counted once."""

    class Two(Runner):
        """A runner with a steady output and one that a batch changes."""

        def run(self, requests: Sequence[Feeds]) -> list[Outputs]:
            """Run, and give `y` twice, once shifted where there are several rows."""
            pieces = super().run(requests)
            return [{"steady": piece["y"], "y": piece["y"] + np.float32(len(piece["y"]) > 1)} for piece in pieces]

    runner = Two(Stand(), 64)
    probes = rows_like(3)(0)
    counts = compare(runner, probes, alone(runner, probes), [np.arange(4)])

    assert (dict(counts.changed), list(counts.ulps)) == ({4: 4}, ["y"])
