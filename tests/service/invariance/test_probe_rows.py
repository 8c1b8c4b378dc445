"""Probe rows: golden rows, the ranges that training saw, and every edge that a request may reach."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.invariance.probe_rows import draws_for, edge_rows, random_rows
from tests.bundles import make_bundle, signature_of

SIGNATURE = signature_of()


def column(table: np.ndarray, name: str) -> np.ndarray:
    return table[:, [feature.name for feature in SIGNATURE.inputs].index(name)]


def test_edges_of_numbers() -> None:
    """Range ends, far outside, the largest floats, the smallest ones, both zeros and a missing value occur."""
    found = column(edge_rows(SIGNATURE, Random(0)), "length_mm")
    largest = float(np.finfo(np.float64).max)

    assert {30.0, 60.0, largest, -largest, 5e-324, -5e-324} <= set(found.tolist())
    assert found[np.isfinite(found)].min() < -10_000
    assert {bool(sign) for sign in np.signbit(found[found == 0])} == {True, False}
    assert np.isnan(found).any()


def test_edges_of_categories() -> None:
    """The first and the last category, a missing and an unseen value occur; missing only where it is allowed."""
    table = edge_rows(SIGNATURE, Random(0))

    assert set(column(table, "island").tolist()) == {0, 1, 2, 3}
    assert set(column(table, "grade").tolist()) == {0, 2, 4}


def test_random_rows_stay_in_range() -> None:
    """Numbers are inside the training range, codes among the known ones and the two special ones."""
    table = random_rows(SIGNATURE, 2000, Random(0))
    lengths, grades = column(table, "length_mm"), column(table, "grade")

    assert np.nanmin(lengths) >= 30
    assert np.nanmax(lengths) <= 60
    assert 0.02 < np.isnan(lengths).mean() < 0.1
    assert not np.isnan(column(table, "count")).any()
    assert set(grades.tolist()) == {0, 1, 2, 4}
    assert set(column(table, "island").tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("number", [0, 1])
def test_draws_repeat(tmp_path: Path, number: int) -> None:
    """The same draw has the same rows whenever it is asked for: processes can compare what they got."""
    read = bundle.read(make_bundle(tmp_path))
    one, other = draws_for(read)(number), draws_for(read)(number)

    for left, right in zip(one, other, strict=True):
        assert left.tobytes() == right.tobytes()


def test_first_draw_has_the_golden_rows(tmp_path: Path) -> None:
    """Draw 0 begins with golden rows, later draws are random rows alone."""
    read = bundle.read(make_bundle(tmp_path))
    golden = Encoder(read.manifest.signature).encode_rows(read.golden.rows[:32]).arrays
    draw = draws_for(read)

    assert draw(0).numeric[:32].tobytes() == golden.numeric.tobytes()
    assert draw(0).categorical[:32].tobytes() == golden.categorical.tobytes()
    assert len(draw(1).numeric) == len(draw(1).categorical) == 32
    assert draw(1).numeric.tobytes() != draw(2).numeric.tobytes()
