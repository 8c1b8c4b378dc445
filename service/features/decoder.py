"""The graph's outputs to predictions that any JSON library writes with the shortest float32 digits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import ClassLabel, class_text


class Decoder:
    """The manifest, arranged for naming outputs."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare the class labels (JSON values) and their keys (strings)."""
        self.labels = manifest.signature.classes
        self._places = manifest.label_places
        self.keys = [class_text(label) for label in self.labels or ()]
        self._levels = manifest.quantile_keys
        self._targets = manifest.signature.targets

    def decode(self, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Return one prediction a row: {"label", "probabilities"}, {"value"} with {"quantiles"} where there are any, or {"values"}.

        The label is the class of the greatest probability, the first of equal ones, unless the bundle decides otherwise.
        """
        if self._targets is not None:
            return [{"values": dict(zip(self._targets, row, strict=True))} for row in shortest(outputs["value"])]
        if self.labels is None:
            predictions: list[dict[str, Any]] = [{"value": value} for value in shortest(outputs["value"][:, 0])]
            if self._levels:
                for prediction, row in zip(predictions, shortest(outputs["quantiles"]), strict=True):
                    prediction["quantiles"] = dict(zip(self._levels, row, strict=True))
            return predictions
        probabilities = outputs["probabilities"]  # [rows, classes] float32
        winners = self._places(probabilities).tolist()
        return [
            {"label": self.labels[winner], "probabilities": dict(zip(self.keys, row, strict=True))}
            for winner, row in zip(winners, shortest(probabilities), strict=True)
        ]


def shortest(values: np.ndarray) -> list[Any]:
    """Return float32 `values` as Python floats whose own digits are the shortest that read back to the float32 bits.

    0.1 in float32 widens to the float64 0.10000000149011612; here it becomes 0.1. orjson knows the float32 digits.
    """
    digits = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    decoded: list[Any] = orjson.loads(digits)
    return decoded


def labels_of(classes: Sequence[ClassLabel]) -> tuple[str, Sequence[ClassLabel]]:
    """Return the datatype of the output `label` and each class in it: BOOL, INT64, or BYTES where they are mixed."""
    kinds = set(map(type, classes))
    if kinds == {bool}:
        return "BOOL", classes
    if kinds == {int} and all(-(1 << 63) <= int(label) < 1 << 63 for label in classes):
        return "INT64", classes
    return "BYTES", [class_text(label) for label in classes]
