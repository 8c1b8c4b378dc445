"""The fast reading of an infer request whose rows are the JSON matrix `features` of plain numbers: all good or nothing.

What this reader accepts, the precise one (service/protocols/oip/request.py) reads with the same bits; a test holds the two to
each other. A SIMD parser hands all numbers over as one buffer and refuses null, strings, booleans and objects in it. It
flattens, so the count of `[` proves how the numbers were nested: each list that must be there has one, and a text that
holds one makes the count too high, which sends the body to the precise reader.
"""

from typing import Any

import numpy as np
import simdjson

from batchproof.service.protocols.json_text.long_parser import LONG_BODY_BYTES, parser_for
from batchproof.service.protocols.oip.inputs import MATRIX

FIELDS = 4  # name, shape, datatype, data: each is asked for below, so that no other can be among as many
OTHER_KEYS = {"id", "parameters", "outputs"}
FP32_SQUARES = 3.4e38**2  # numbers whose squares add up to less are within FP32, each of them


class FastMatrix:
    """Reads requests of models whose features are all numeric."""

    def __init__(self, width: int) -> None:
        """Read rows of `width` features."""
        self._width = width
        self._parser = simdjson.Parser()

    def read(self, body: bytes) -> tuple[np.ndarray, dict[str, Any]] | None:
        """Return the rows of a body that is all good and what it says besides, or None.

        The rows are [rows, features] float64, all finite.
        """
        if body[:1] == b"\xef":  # the precise reader passes over a byte order mark
            return None
        if len(body) < LONG_BODY_BYTES:
            return self._parsed(body, self._parser)
        with parser_for(body) as parser:
            return self._parsed(body, parser)

    def _parsed(self, body: bytes, parser: simdjson.Parser) -> tuple[np.ndarray, dict[str, Any]] | None:
        try:
            document: Any = parser.parse(body)
            return self._read(body, document) if isinstance(document, simdjson.Object) else None
        except (ValueError, TypeError, KeyError, RuntimeError):  # RuntimeError: an integer of more than 64 bits
            return None

    def _read(self, body: bytes, document: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Do as `read`; raises ValueError or TypeError, or what the parser raises, where the body is unusual."""
        other_keys = _other_keys(document) if len(document) > 1 else {}
        tensor, *others = document["inputs"]
        if others or len(tensor) != FIELDS or tensor["name"] != MATRIX:
            raise ValueError("other inputs beside the matrix")
        data, shape = tensor["data"], tensor["shape"]
        if not isinstance(data, simdjson.Array) or not isinstance(shape, simdjson.Array):
            raise TypeError("no lists")
        rows, width = shape.as_list()
        if type(rows) is not int or type(width) is not int or width != self._width:
            raise ValueError("another shape")
        lists = 3 + isinstance(other_keys.get("outputs"), list)  # [ of inputs, shape, data and outputs
        numbers = _numbers(data, rows, body.count(b"[") - lists)
        if len(numbers) != rows * width:
            raise ValueError("another length")
        if tensor["datatype"] == "FP32":
            numbers = _rounded(numbers)
        elif tensor["datatype"] != "FP64":
            raise ValueError("another datatype")
        return numbers.reshape(rows, width), other_keys


def _other_keys(document: Any) -> dict[str, Any]:
    """Return the keys other than `inputs`; raises ValueError if one is unusual, or occurs twice."""
    other_keys = {name: _plain(document[name]) for name in document.keys() if name != "inputs"}  # noqa: SIM118 - no dict
    if len(document) != 1 + len(other_keys) or not other_keys.keys() <= OTHER_KEYS:
        raise ValueError("another field, or one twice")
    return other_keys


def _numbers(data: Any, rows: int, further_lists: int) -> np.ndarray:
    """Return the numbers of a list, flat or of `rows` lists of one length; raises ValueError for any other nesting."""
    if further_lists and (len(data) != rows or rows != further_lists or len(set(map(len, data))) != 1):
        raise ValueError("another nesting")
    return np.frombuffer(data.as_buffer(of_type="d"))


def _rounded(numbers: np.ndarray) -> np.ndarray:
    """Return finite numbers as FP32 holds them; raises ValueError where one may be beyond."""
    if not np.vdot(numbers, numbers) < FP32_SQUARES:  # unlike dot, no warning where the sum is infinite
        raise ValueError("beyond FP32")
    return numbers.astype(np.float32).astype(np.float64)


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value
