"""The statistics that training writes: counts of the training rows, bounded and repeatable."""

import json
from typing import Any

import numpy as np
import pytest

from batchproof.service.features.arrays import Arrays
from batchproof.training.export import reference
from tests.bundles import signature_of

NUMBER = {"name": "x", "kind": "numeric", "value_type": "float", "missing": True, "range": [0.0, 9.0]}


def category(listed: int) -> dict[str, Any]:
    names = [f"c{place}" for place in range(listed)]
    return {"name": "c", "kind": "categorical", "value_type": "string", "missing": True, "categories": names}


def numbers(values: np.ndarray) -> Any:
    return reference.feature_entries(signature_of(inputs=[NUMBER]), Arrays(values[:, np.newaxis], None), 1)[0]


def codes(listed: int, values: np.ndarray, rare_rows: int) -> Any:
    signature = signature_of(inputs=[category(listed)])
    return reference.feature_entries(signature, Arrays(None, values[:, np.newaxis]), rare_rows)[0]


def test_intervals_hold_equal_shares() -> None:
    """Distinct numbers are counted in ten intervals of equal shares."""
    entry = numbers(np.random.default_rng(0).permutation(1000).astype(float))
    assert len(entry["edges"]) == 9
    assert max(entry["counts"][:10]) - min(entry["counts"][:10]) <= 10
    assert entry["counts"][10] == 0


@pytest.mark.parametrize(
    "values", [[0.0] * 90 + [3.0] * 10, [5.0] * 20, [np.nan] * 10, [np.nan, 1.0], [-0.0, 0.0, 1.0]]
)
def test_ties_and_missing_values_leave_no_empty_interval(values: list[float]) -> None:
    """However many values are equal or missing, each interval between edges had rows."""
    entry = numbers(np.array(values))
    *intervals, missing = entry["counts"]
    assert missing == int(np.isnan(values).sum())
    assert sum(intervals) + missing == len(values)
    assert all(intervals) or intervals == [0]


def test_few_distinct_values_have_intervals_of_their_own() -> None:
    """A value that is rarer than a tenth is not hidden among the others where there are few."""
    entry = numbers(np.repeat([0.0, 1.0, 7.0], [3, 90, 7]))
    assert entry == {"edges": [0.0, 1.0], "counts": [3, 90, 7, 0]}


def test_categories_that_only_chance_lists_count_as_unseen() -> None:
    """A category with exactly as many rows as it takes to be listed would not be listed without one of them."""
    entry = codes(3, np.repeat([0, 1, 2, 3, 4], [50, 5, 6, 4, 3]), rare_rows=5)
    assert entry == {"codes": [0], "counts": [50, 6, 4, 8]}


def test_only_the_most_frequent_categories_have_a_cell() -> None:
    """However many categories there are, an entry is bounded."""
    entry = codes(200, np.repeat(np.arange(200), np.arange(200)[::-1] + 1), rare_rows=1)
    assert entry["codes"] == list(range(50))
    assert codes(200, np.repeat(np.arange(200), 30), rare_rows=5)["codes"] == [], "none is frequent"
    assert sum(entry["counts"]) == 200 * 201 // 2


def test_wide_models_have_statistics_as_far_as_there_is_room() -> None:
    """Features beyond the bound have none, in signature order."""
    inputs = [{**NUMBER, "name": f"x{place}"} for place in range(1000)]
    table = np.random.default_rng(1).normal(size=(50, 1000))
    entries = reference.feature_entries(signature_of(inputs=inputs), Arrays(table, None), 1)
    kept = [entry is not None for entry in entries]
    assert kept == sorted(kept, reverse=True)
    assert 700 < sum(kept) < 800


def test_equal_rows_give_equal_bytes() -> None:
    """The file depends on the rows and the outputs only."""
    signature = signature_of(inputs=[NUMBER])
    train = Arrays(np.arange(40.0)[:, np.newaxis], None)
    outputs = {"probabilities": np.eye(3, dtype=np.float32)[np.arange(40) % 3]}
    first = reference.serialise(signature, train, outputs, 5)
    assert first == reference.serialise(signature, train, outputs, 5)
    assert json.loads(first)["predictions"] == {"rows": 40, "codes": [0, 1, 2], "counts": [14, 13, 13, 0, 0, 0]}
