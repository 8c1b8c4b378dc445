"""Contributions add up, are the Shapley values, and do not depend on the batch."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.features import attribution as explain
from batchproof.service.features.arrays import Arrays


def _signature(numeric: int, categorical: int) -> Signature:
    numbers = [Feature(name=f"n{i}", kind="numeric", value_type="float", missing=True) for i in range(numeric)]
    codes = [
        Feature(name=f"c{i}", kind="categorical", value_type="string", missing=True, categories=("a", "b"))
        for i in range(categorical)
    ]
    mixed = [*numbers[:1], *codes, *numbers[1:]]  # the kinds interleave, as in real tables
    return Signature(inputs=tuple(mixed), target="y")


def _arrays(rows: int, numeric: int, categorical: int, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    return Arrays(random.normal(size=(rows, numeric)), random.integers(0, 4, size=(rows, categorical)))


def _score(arrays: Arrays) -> np.ndarray:
    """Return a score with interactions, [rows, 2] float32."""
    numeric, codes = arrays.numeric, arrays.categorical
    assert numeric is not None
    assert codes is not None
    first = numeric[:, 0] * codes[:, 0] + np.maximum(numeric[:, 1], 0) * numeric[:, -1]
    return np.stack([first, numeric.sum(axis=1)], axis=1).astype(np.float32)


def _explained(arrays: Arrays, baseline: Arrays, signature: Signature) -> explain.Contributions:
    made = explain.plan(len(signature.inputs))
    return explain.reduce(made, _score(explain.expand(made, arrays, baseline, signature)))


@pytest.mark.parametrize("numeric", [2, 5, 9])
@given(seed=st.integers(0, 1000))
def test_contributions_sum_to_score_minus_baseline(numeric: int, seed: int) -> None:
    """Whatever the number of features, a row's contributions sum to its score less the baseline's."""
    signature = _signature(numeric, 1)
    found = _explained(_arrays(3, numeric, 1, seed), _arrays(1, numeric, 1, seed + 1), signature)
    np.testing.assert_allclose(found.values.sum(axis=1), found.scores - found.baseline, atol=1e-9)


def test_small_signatures_give_the_shapley_values() -> None:
    """Up to the limit, a contribution is the mean marginal step over every order of the features."""
    signature, row, base = _signature(3, 1), _arrays(1, 3, 1, 5), _arrays(1, 3, 1, 6)
    found = _explained(row, base, signature)
    own = np.concatenate([row.numeric, row.categorical], axis=1)[0]  # columns n0 n1 n2 c0
    other = np.concatenate([base.numeric, base.categorical], axis=1)[0]
    expected = np.zeros((4, 2))
    orders = list(permutations(range(4)))
    for order in orders:
        mixed = other.copy()
        for column in order:
            before = _score(Arrays(mixed[None, :3], mixed[None, 3:].astype(np.int64)))[0].astype(np.float64)
            mixed[column] = own[column]
            after = _score(Arrays(mixed[None, :3], mixed[None, 3:].astype(np.int64)))[0].astype(np.float64)
            expected[column] += (after - before) / len(orders)
    np.testing.assert_allclose(found.values[0][[0, 2, 3, 1]], expected, atol=1e-9)  # signature order: n0 c0 n1 n2
    assert not found.errors.any()


def test_sampled_contributions_state_their_error() -> None:
    """Above the limit the values are within a few of the standard errors that are reported with them."""
    signature = _signature(explain.EXACT_FEATURES + 2, 1)
    row, base = _arrays(20, explain.EXACT_FEATURES + 2, 1, 1), _arrays(1, explain.EXACT_FEATURES + 2, 1, 2)
    sampled = _explained(row, base, signature)
    exact_plan = explain._all_sets(len(signature.inputs))
    exact = explain.reduce(exact_plan, _score(explain.expand(exact_plan, row, base, signature)))
    gap = np.abs(sampled.values - exact.values)
    assert sampled.errors.max() > 0
    assert (gap <= 5 * sampled.errors + 1e-6).mean() > 0.97


@pytest.mark.parametrize("numeric", [3, 12])
def test_explanations_do_not_depend_on_the_batch(numeric: int) -> None:
    """A row's contributions have the same bits alone and among others."""
    signature, arrays, base = _signature(numeric, 1), _arrays(17, numeric, 1, 3), _arrays(1, numeric, 1, 4)
    together = _explained(arrays, base, signature)
    assert arrays.numeric is not None
    assert arrays.categorical is not None
    for row in range(17):
        alone = _explained(Arrays(arrays.numeric[row : row + 1], arrays.categorical[row : row + 1]), base, signature)
        assert alone.values.tobytes() == together.values[row].tobytes()
        assert alone.errors.tobytes() == together.errors[row].tobytes()


def test_centred_scores_sum_to_nothing() -> None:
    """A row's centred scores keep their differences and have no mean."""
    scores = np.array([[0.0, 3.0], [1.0, 5.0]], np.float32)
    np.testing.assert_array_equal(explain.centred(scores), [[-1.5, 1.5], [-2.0, 2.0]])


def test_a_model_of_numbers_only_is_explained() -> None:
    """Where the signature has no category, the mixed rows have none, and the contributions are those of the numbers."""
    signature = _signature(3, 0)
    rows, baseline = Arrays(np.array([[1.0, 2.0, 3.0]]), None), Arrays(np.zeros((1, 3)), None)
    made = explain.plan(3)
    mixed = explain.expand(made, rows, baseline, signature)
    assert mixed.categorical is None
    assert mixed.numeric is not None
    found = explain.reduce(made, (mixed.numeric @ [[1.0], [10.0], [100.0]]).astype(np.float32))
    np.testing.assert_allclose(found.values[0, :, 0], [1.0, 20.0, 300.0], rtol=1e-12)
