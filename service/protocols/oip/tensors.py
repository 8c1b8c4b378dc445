"""Tensors of the Open Inference Protocol: datatype, shape and elements, as JSON or as little-endian bytes.

Source: the protocol's REST specification, "Tensor Data", and its binary data extension. Elements are row-major.
FP16 and BF16 have no JSON form; BYTES are UTF-8 text here, each with a uint32 length before it in the binary form.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from batchproof.service.errors import ServiceError

DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
BINARY_ONLY = ("FP16", "BF16")
DATATYPES = (*DTYPES, "BF16", "BYTES")
MAX_ELEMENTS = 1 << 40  # a shape whose product is beyond this is a fault, not a size
MAX_RANK = 8  # the product of a million sizes takes minutes

Elements: TypeAlias = np.ndarray | list[Any]  # flat; a list holds str, or None where missing


class Tensor(NamedTuple):
    """One input of a request."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: Elements
    has_null: bool = False  # whether it came in a form that has null beside an empty text: JSON


def refuse(message: str) -> ServiceError:
    """Return 400, the status of every fault in a request of this protocol."""
    return ServiceError(400, "invalid_request", message)


def checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Return the shape as sizes; raises 400."""
    if not isinstance(shape, list) or set(map(type, shape)) != {int} or min(shape) < 0:
        raise refuse(f"Unable to parse 'shape' of input '{name}': it must be a list of sizes, the rows first")
    if len(shape) > MAX_RANK or max(shape) > MAX_ELEMENTS or prod(shape) > MAX_ELEMENTS:
        raise refuse(f"the shape of input '{name}' holds too many elements")
    return tuple(shape)


def checked_datatype(name: str, datatype: Any) -> str:
    """Return the datatype; raises 400."""
    if datatype not in DATATYPES:
        raise refuse(f"input '{name}' has unknown datatype {datatype!r:.40}; known are {', '.join(DATATYPES)}")
    return str(datatype)


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Elements:
    """Return the elements of JSON `data`, flat or nested as `shape` says; null is a missing element. Raises 400."""
    if datatype in BINARY_ONLY:
        raise refuse(f"input '{name}': {datatype} has no JSON form; send it as binary data")
    flat = _flat(name, shape, data)
    kinds = set(map(type, flat))
    if datatype == "BYTES":
        return _only(name, datatype, flat, kinds, {str, type(None)})
    if datatype == "BOOL":
        return _only(name, datatype, flat, kinds, {bool, type(None)})
    _only(name, datatype, flat, kinds, {int, float, type(None)})
    if datatype == "FP64":
        return _numbers(flat, kinds)
    if datatype == "FP32":
        # The declared type rounds: an FP32 element has the value it would have as four bytes.
        with np.errstate(over="ignore"):
            return _numbers(flat, kinds).astype(DTYPES[datatype])
    return _integers(name, datatype, flat, kinds)


def from_binary(name: str, datatype: str, shape: tuple[int, ...], raw: memoryview) -> Elements:
    """Return the elements of little-endian bytes; raises 400 where they are not as many as `shape` says."""
    if datatype == "BYTES":
        elements = list(_texts(name, raw))
        if len(elements) != prod(shape):
            raise refuse(
                f"input '{name}' holds {len(elements)} elements, but shape {list(shape)} needs {prod(shape)} elements"
            )
        return elements
    dtype = np.dtype("<u2" if datatype == "BF16" else DTYPES[datatype])
    wanted = prod(shape) * dtype.itemsize
    if len(raw) != wanted:
        raise refuse(f"unexpected size for input '{name}', expecting {wanted} bytes but got {len(raw)}")
    values = np.frombuffer(raw, dtype)
    if datatype == "BF16":  # the upper half of a float32
        return (values.astype("<u4") << 16).view("<f4")
    if datatype == "BOOL" and (np.frombuffer(raw, np.uint8) > 1).any():
        raise refuse(f"input '{name}': a BOOL is a byte 0 or 1")
    return values


def to_binary(elements: np.ndarray | Sequence[str]) -> bytes:
    """Return numbers or booleans as little-endian bytes, texts each with its length before it."""
    if isinstance(elements, np.ndarray):
        return elements.astype(elements.dtype.newbyteorder("<"), copy=False).tobytes()
    encoded = [text.encode() for text in elements]
    return b"".join(chain.from_iterable((struct.pack("<I", len(text)), text) for text in encoded))


def _flat(name: str, shape: tuple[int, ...], data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise refuse(f"input '{name}' needs 'data', a list, or the parameter binary_data_size")
    if not data or not isinstance(data[0], list):
        if len(data) != prod(shape) or list in map(type, data):
            raise _mismatch(name)
        return data
    flat = data
    for size in shape[1:]:  # nested: every level has exactly the size that the shape says
        if any(type(part) is not list or len(part) != size for part in flat):
            raise _mismatch(name)
        flat = list(chain.from_iterable(flat))
    if len(data) != shape[0] or len(flat) != prod(shape):
        raise _mismatch(name)
    return flat


def _mismatch(name: str) -> ServiceError:
    return refuse(f"Unable to parse 'data': Shape does not match true shape of 'data' field of input '{name}'")


def _only(name: str, datatype: str, flat: list[Any], kinds: set[type], allowed: set[type]) -> list[Any]:
    if not kinds <= allowed:
        place = next(place for place, element in enumerate(flat) if type(element) not in allowed)
        raise refuse(f"input '{name}': element {place} is {type(flat[place]).__name__}, not {datatype}")
    return flat


def _numbers(flat: list[Any], kinds: set[type]) -> np.ndarray:
    if type(None) in kinds:
        flat = [np.nan if element is None else element for element in flat]
    try:
        return np.array(flat, np.float64)
    except OverflowError:  # an integer beyond float64
        return np.array([_float(element) for element in flat], np.float64)


def _float(element: float) -> float:
    try:
        return float(element)
    except OverflowError:
        return np.inf if element > 0 else -np.inf


def _integers(name: str, datatype: str, flat: list[Any], kinds: set[type]) -> Elements:
    bounds = np.iinfo(DTYPES[datatype])
    for place, element in enumerate(flat):
        if element is None:
            continue
        if type(element) is float and not element.is_integer():
            raise refuse(f"input '{name}': element {place} is {element}, not a whole number as {datatype} has")
        if not bounds.min <= element <= bounds.max:
            raise refuse(f"input '{name}': element {place} is beyond {datatype}")
    if type(None) in kinds:
        return flat
    return np.array([int(element) for element in flat], DTYPES[datatype])


def _texts(name: str, raw: memoryview) -> Iterator[str]:
    at = 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise refuse(f"input '{name}': the length before a BYTES element is cut off")
        (size,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + size > len(raw):
            raise refuse(f"input '{name}': a BYTES element of {size} bytes is cut off")
        try:
            yield str(raw[at : at + size], "utf-8")
        except UnicodeDecodeError as error:
            raise refuse(f"input '{name}': a BYTES element is not UTF-8 text") from error
        at += size
