"""Values that training did not have, found by comparing arrays."""

import numpy as np
import pytest

from batchproof.service.features.arrays import Arrays
from batchproof.service.features.novelty import Novelty
from batchproof.service.features.row_encoder import Encoder
from tests.bundles import INPUTS, signature_of

GOOD = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": "2020-01-01", "adult": True, "grade": 1, "owned": None}


def novelty(*rows: dict[str, object]) -> tuple[list[list[str]], list[list[str]]]:
    signature = signature_of()
    encoded = Encoder(signature).encode_rows([{**GOOD, **row} for row in rows])
    assert not encoded.errors
    found = Novelty(signature)
    return found.unseen(encoded.arrays), found.out_of_range(encoded.arrays)


def test_each_row_names_its_own() -> None:
    """A row names its unseen categories and its values outside the training range, in signature order, and no others."""
    rows = (
        {},
        {"island": "Elsewhere", "grade": 77},
        {"length_mm": 29.9, "count": 10, "seen": "1970-01-02"},
        {"length_mm": None},
    )

    unseen, outside = novelty(*rows)
    assert unseen == [[], ["island", "grade"], [], []]
    assert outside == [[], [], ["length_mm", "count", "seen"], []]


@pytest.mark.parametrize("value", [30.0, 60.0])
def test_the_ends_of_a_range_are_inside(value: float) -> None:
    """The least and the greatest training value are not outside."""
    assert novelty({"length_mm": value})[1] == [[]]


def test_a_signature_of_one_kind_has_nothing_of_the_other() -> None:
    """Without categorical features nothing is unseen, and without numbers nothing is outside a range."""
    numbers = signature_of(inputs=[feature for feature in INPUTS if feature["kind"] == "numeric"])
    texts = signature_of(inputs=[feature for feature in INPUTS if feature["kind"] == "categorical"])
    three = np.zeros((3, len(numbers.inputs)))

    assert Novelty(numbers).unseen(Arrays(three, None)) == [[], [], []]
    assert Novelty(texts).out_of_range(Arrays(None, np.zeros((2, len(texts.inputs)), np.int64))) == [[], []]


def test_a_feature_without_a_range_is_never_outside() -> None:
    """Where training measured no range, no value is outside."""
    free = signature_of(inputs=[{"name": "x", "kind": "numeric", "value_type": "float", "missing": True}])

    assert Novelty(free).out_of_range(Arrays(np.array([[1e300], [np.nan]]), None)) == [[], []]
