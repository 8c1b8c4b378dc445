"""Whole columns get the numbers that their values get one by one."""

import numpy as np
import pytest

from batchproof.service.bundle.signature import Feature
from batchproof.service.errors import FeatureError
from batchproof.service.features.columns import encode_column

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
