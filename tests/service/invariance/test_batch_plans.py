"""The batches that a model is checked with: promised sizes, rows of every kind, uneven requests, filled batches."""

import numpy as np
import pytest

from batchproof.service.invariance.batch_plans import CUTS, cut, filled, sizes_for, spread

PROMISED = {*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257}


@pytest.mark.parametrize("run_rows", [1, 16, 40, 512])
def test_sizes_are_the_promised_ones(run_rows: int) -> None:
    """Every size to 17, the neighbours of 32 to 256, the largest run and one row more, which is cut."""
    sizes = sizes_for(run_rows)

    assert PROMISED | {run_rows, run_rows + 1} == set(sizes)
    assert sizes == tuple(sorted(set(sizes)))
    assert sizes[0] == 1


@pytest.mark.parametrize("rows", [1, 2, 7, 40, 102])
def test_batches_take_rows_from_all_over(rows: int) -> None:
    """No row comes twice before each has come once, and four rows or more come from each third of the probes."""
    for size in range(1, 2 * rows + 1):
        chosen = spread(size, rows, turn=size)
        assert len(set(chosen.tolist())) == min(size, rows)
        assert np.bincount(chosen).max() <= -(-size // rows)
        if size >= 4 and rows >= 40:
            assert {row * 3 // rows for row in chosen.tolist()} == {0, 1, 2}


def test_turn_moves_the_rows() -> None:
    """Another turn takes other rows to a small batch."""
    assert set(spread(4, 40, 1).tolist()) != set(spread(4, 40, 5).tolist())


@pytest.mark.parametrize("size", range(1, 200, 7))
def test_cut_keeps_all_rows_in_order(size: int) -> None:
    """The requests that a batch is joined from are its rows, in order, none empty."""
    pieces = cut(np.arange(size))

    assert np.array_equal(np.concatenate(pieces), np.arange(size))
    assert all(len(piece) for piece in pieces)


@pytest.mark.parametrize(
    "size, wanted", [(1, [1]), (3, [1, 2]), (17, [1, 2, 3, 5, 6]), (513, [*CUTS, 371]), (64, [64])]
)
def test_odd_batches_are_joined_from_several_requests(size: int, wanted: list[int]) -> None:
    """The code that joins and splits takes part; the last request takes what is left."""
    assert [len(piece) for piece in cut(np.arange(size))] == wanted


def test_each_row_fills_a_batch() -> None:
    """Every probe row that is asked for is the whole of some batch of several rows."""
    batches = list(filled(sizes_for(64), range(5, 15)))

    assert [set(batch.tolist()) for batch in batches] == [{row} for row in range(5, 15)]
    assert all(len(batch) > 1 for batch in batches)
