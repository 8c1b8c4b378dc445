"""Example rows for people: golden rows, those with the fewest missing values first."""

import json
from collections.abc import Sequence
from typing import Any

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.features.value_encoder import category_text

BRIEF = 2  # features that a brief example shows


def rows(signature: Signature, golden: Sequence[Sequence[Any]], most: int = 1) -> list[list[Any]]:
    """Return `most` golden rows in signature order: those with the fewest gaps, each category one that training saw.

    Golden rows hold unseen categories too, which tests need and examples must not show.
    """
    plainest = sorted(golden, key=lambda row: sum(value is None for value in row))[:most]
    return [[_known(feature, value) for feature, value in zip(signature.inputs, row, strict=True)] for row in plainest]


def named(signature: Signature, row: Sequence[Any]) -> dict[str, Any]:
    """Return a row in signature order as {feature: value}."""
    return dict(zip((feature.name for feature in signature.inputs), row, strict=True))


def brief(signature: Signature) -> str:
    """Return the body of a request short enough for a sentence: its first features only."""
    shown = {feature.name: _plain(feature) for feature in signature.inputs[:BRIEF]}
    text = json.dumps({"rows": [shown]}, ensure_ascii=False)
    return text if len(signature.inputs) <= BRIEF else text.removesuffix("}]}") + ", ...}]}"


def _plain(feature: Feature) -> Any:
    """Return a value that the feature accepts."""
    if feature.typical is not None:
        return feature.typical
    first = (feature.categories or ("text",))[0]
    values = {"boolean": True, "string": first, "date": "2024-02-29"}
    return values.get(feature.value_type, 1)


def _known(feature: Feature, value: Any) -> Any:
    """Return the value, or the most frequent category of the feature if it is not one of its categories."""
    is_listed = not feature.categories or value is None or category_text(feature, value) in feature.categories
    return value if is_listed or feature.typical is None else feature.typical
