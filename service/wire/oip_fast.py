"""The fast reading of an infer request whose rows are the JSON matrix `features` of plain numbers: all good or nothing.

What this reader takes, the precise one (service/wire/oip_request.py) takes with the same bits; a test holds the two to
each other. A SIMD parser hands all numbers over as one buffer and refuses null, strings, booleans and objects in it. It
flattens, so the count of `[` proves how the numbers were nested: each list that must be there has one, and a text that
holds one makes the count too high, which sends the body to the precise reader.
"""

from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import simdjson

from service.wire.oip_inputs import MATRIX

FIELDS = 4  # name, shape, datatype, data: each is asked for below, so that no other can be among as many
BESIDE = {"id", "parameters", "outputs"}
FLOATS = ("FP32", "FP64")


class Found(NamedTuple):
    """The rows, and what the request says besides."""

    numbers: np.ndarray  # [rows, features] float64, all finite
    beside: dict[str, Any]


class FastMatrix:
    """Reads requests of models whose features are all numeric."""

    def __init__(self, width: int) -> None:
        """Read rows of `width` features."""
        self._width = width
        self._parser = simdjson.Parser()

    def read(self, body: bytes) -> Found | None:
        """Return the rows of a body that is all good, or None."""
        if body[:1] == b"\xef":  # a byte order mark is no JSON
            return None
        try:
            document: Any = self._parser.parse(body)
            return self._read(body, document) if isinstance(document, simdjson.Object) else None
        except (ValueError, TypeError, KeyError, RuntimeError):  # RuntimeError: an integer of more than 64 bits
            return None

    def _read(self, body: bytes, document: Any) -> Found | None:
        beside: dict[str, Any] = {}
        if len(document) > 1:
            names = document.keys()
            beside = {name: _plain(document[name]) for name in names if name != "inputs"}
        (tensor,) = document["inputs"]
        if len(document) != 1 + len(beside) or not beside.keys() <= BESIDE or not isinstance(tensor, simdjson.Object):
            return None
        data, shape, datatype = tensor["data"], tensor["shape"], tensor["datatype"]
        if len(tensor) != FIELDS or tensor["name"] != MATRIX or datatype not in FLOATS:
            return None
        if not isinstance(data, simdjson.Array) or not isinstance(shape, simdjson.Array):
            return None
        rows, width = _plain(shape)
        lists = 3 + isinstance(beside.get("outputs"), list)  # [ of inputs, shape, data and outputs
        numbers = _numbers(data, rows, body.count(b"[") - lists)
        if numbers is None or type(rows) is not int or width != self._width or len(numbers) != rows * width:
            return None
        if datatype == "FP32":
            numbers = _rounded(numbers)
        return None if numbers is None else Found(numbers.reshape(rows, self._width), beside)


def _numbers(data: Any, rows: int, further_lists: int) -> np.ndarray | None:
    """Return the numbers of a list, flat or of `rows` lists of one length; None for any other nesting."""
    numbers = np.frombuffer(data.as_buffer(of_type="d"))
    if further_lists == 0:
        return numbers
    is_nested = len(data) == rows == further_lists and len(set(map(len, data))) == 1
    return numbers if is_nested else None


def _rounded(numbers: np.ndarray) -> np.ndarray | None:
    """Return the numbers as FP32 holds them; None where one is beyond."""
    with np.errstate(over="ignore"):
        rounded = numbers.astype(np.float32).astype(np.float64)
    # Squares of finite float32 are far within float64: the sum is finite if each number is.
    return rounded if isfinite(rounded.dot(rounded)) else None


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value
