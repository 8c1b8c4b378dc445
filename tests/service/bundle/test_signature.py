"""The signature's own arithmetic: which code a category, a missing value and an unseen value have."""

import pytest

from batchproof.service.bundle.signature import Feature


def feature(*categories: str) -> Feature:
    """Return a categorical feature with these categories."""
    return Feature(name="c", kind="categorical", value_type="string", missing=True, categories=categories)


@pytest.mark.parametrize("categories", [(), ("a",), ("b", "a", "")])
def test_codes_are_the_categories_then_missing_then_unseen(categories: tuple[str, ...]) -> None:
    """The codes of a feature are 0, 1, 2 and so on without a gap: its categories in order, missing, unseen."""
    one = feature(*categories)
    assert list(one.codes) == list(categories)
    assert [*one.codes.values(), one.missing_code, one.unseen_code] == list(range(one.code_count))


def test_only_categorical_features_have_codes() -> None:
    """A numeric feature lists no category."""
    assert Feature(name="x", kind="numeric", value_type="float", missing=True).codes == {}
