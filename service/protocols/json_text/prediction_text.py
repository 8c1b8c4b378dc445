"""Outputs to the text of predictions: prebuilt bytes around the shortest float32 digits, joined once.

The text reads back as what `batchproof.service.features.decoder.Decoder.decode` returns; a test holds the two together.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np
import orjson

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import class_text
from batchproof.service.features.arrays import numbers_of

MANY_ROWS = 16  # from so many on, one join beats a text for each row


class PredictionText:
    """The manifest, arranged for writing predictions."""

    def __init__(self, manifest: Manifest) -> None:
        """Prebuild what stands before, between and after the numbers."""
        classes = manifest.signature.classes
        keys = [orjson.dumps(class_text(label)) + b":" for label in classes or ()]
        self._is_value = classes is None
        targets = manifest.signature.targets or ()
        # Of one row that has several numbers: its digits stand at each %b.
        self._numbers = b'{"values":' + _template(targets) + b"}" if targets else b""
        if manifest.quantile_keys:
            self._numbers = b'{"value":%b,"quantiles":' + _template(manifest.quantile_keys) + b"}"
        self._places = manifest.label_places
        self._heads = [b'{"label":' + orjson.dumps(label) + b',"probabilities":{' + keys[0] for label in classes or ()]
        self._later_heads = [b"}}," + head for head in self._heads]
        self._between = [b"," + key for key in keys[1:]]
        texts = [_escaped(key) + b"%b" for key in self._between]
        self._template = b"%b%b" + b"".join(texts) + b"}}"  # of one row: its head, and the digits of each class

    def write(self, outputs: Mapping[str, np.ndarray]) -> bytes:
        """Return the predictions of all rows, separated by commas."""
        if self._is_value:
            return b",".join(self.each(outputs))
        probabilities = outputs["probabilities"]
        rows = len(probabilities)
        if rows == 1:
            return self._one(probabilities)
        return self._joined(probabilities) if rows >= MANY_ROWS else b",".join(self.each(outputs))

    def each(self, outputs: Mapping[str, np.ndarray]) -> Sequence[bytes]:
        """Return the text of each row's prediction."""
        if self._numbers:
            numbers = numbers_of(outputs)
            width, flat = numbers.shape[1], _digits(numbers)
            return [self._numbers % row for row in zip(*(flat[place::width] for place in range(width)), strict=True)]
        if self._is_value:
            return [b'{"value":' + digits + b"}" for digits in _digits(outputs["value"])]
        probabilities = outputs["probabilities"]  # [rows, classes] float32
        digits = _digits(probabilities)
        return self._many(self._places(probabilities).tolist(), digits)

    def _one(self, probabilities: np.ndarray) -> bytes:
        """Return the text of a lone row, probabilities [1, classes], without lists of one."""
        digits = orjson.dumps(probabilities, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b",")
        return self._template % (self._heads[self._places(probabilities)[0]], *digits)

    def _joined(self, probabilities: np.ndarray) -> bytes:
        """Do as `each` for probabilities [rows, classes], with one join, and no object per row."""
        digits = _digits(probabilities)
        rows, classes = probabilities.shape
        parts = [b""] * (2 * classes * rows)
        parts[:: 2 * classes] = map(self._later_heads.__getitem__, self._places(probabilities).tolist())
        for place in range(classes):
            parts[2 * place + 1 :: 2 * classes] = digits[place::classes]
        for place, key in enumerate(self._between, 1):
            parts[2 * place :: 2 * classes] = repeat(key, rows)
        parts[0] = parts[0].removeprefix(b"}},")
        parts.append(b"}}")
        return b"".join(parts)

    def _many(self, winners: list[int], digits: list[bytes]) -> list[bytes]:
        classes = 1 + len(self._between)
        columns = [digits[place::classes] for place in range(classes)]
        heads = map(self._heads.__getitem__, winners)
        return [self._template % row for row in zip(heads, *columns, strict=True)]


def _template(keys: Sequence[str]) -> bytes:
    """Return the text of an object with a number under each key, in which each number's digits stand at a %b."""
    return b"{" + b",".join([_escaped(orjson.dumps(key)) + b":%b" for key in keys]) + b"}"


def _escaped(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


def _digits(values: np.ndarray) -> list[bytes]:
    """Return the shortest digits of each number of `values` [rows, width], flat."""
    flat = values.ravel()
    return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",") if len(flat) else []
