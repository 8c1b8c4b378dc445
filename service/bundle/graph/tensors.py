"""Check the constant tensors of model.onnx: their data fill their shape, and all their numbers are finite.

A shape without data would make the engine allocate memory that the file does not contain: a file of 100 bytes can claim 2^62 numbers.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.graph import fields as schema
from batchproof.service.bundle.graph.protobuf import Message

MAX_AXES = 8
MAX_ELEMENTS = 1 << 31
MAX_READ = 4096  # packed whole numbers that are decoded: sizes, axes, divisors
TYPED_FIELDS = {  # where a data type is stored that is not in raw_data
    "float32": "float_data",
    "float64": "double_data",
    "int64": "int64_data",
    "int32": "int32_data",
    "int8": "int32_data",
    "uint8": "int32_data",
    "bool": "int32_data",
}
DATA_FIELDS = ("raw_data", "float_data", "double_data", "int64_data", "int32_data")


class Constant(NamedTuple):
    """A checked tensor."""

    dtype: str
    shape: tuple[int, ...]
    whole: np.ndarray | None = None  # [elements] the values of whole numbers; None: not read, or not whole


def read(tensor: Message) -> Constant:
    """Check a tensor, and read the values where it holds whole numbers; raises ValueError."""
    label = f"the weight {tensor.text('name')!r:.80}"
    dtype = schema.DTYPES.get(tensor.number("data_type"))
    if dtype is None:
        raise ValueError(f"{label} has data type {tensor.number('data_type')}, which a bundle may not use")
    shape = _shape(tensor.numbers("dims"), label)
    stored = [name for name in DATA_FIELDS if any(map(len, tensor.bytes(name)))]
    if any(name not in ("raw_data", TYPED_FIELDS[dtype]) for name in stored) or len(stored) > 1:
        raise ValueError(f"{label} of {dtype} has its data in {' and '.join(stored)}")
    if not stored:
        if math.prod(shape):
            raise ValueError(f"{label} has no data for its shape {list(shape)}")
        return Constant(dtype, shape, np.zeros(0, np.int64) if _is_whole(dtype) else None)
    (data,) = tensor.bytes(stored[0])
    if stored[0] in ("int64_data", "int32_data"):
        return Constant(dtype, shape, _packed(data, shape, label))
    values = _fixed(data, dtype, shape, label)
    if dtype == "bool" and values.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"{label} holds a truth value other than 0 and 1")
    return Constant(dtype, shape, values if _is_whole(dtype) else None)


def check_finite(numbers: np.ndarray, label: str) -> None:
    """Raise ValueError where a floating-point number is NaN or infinite."""
    if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        raise ValueError(f"{label} holds NaN or infinity")


def numbers_of(data: memoryview, dtype: str, label: str) -> np.ndarray:
    """Return the little-endian numbers as they are stored in the file; raises ValueError if the last one is cut off."""
    little = np.dtype(dtype).newbyteorder("<")
    if len(data) % little.itemsize:
        raise ValueError(f"{label} ends within a number")
    return np.frombuffer(data, little)


def _shape(dims: list[int], label: str) -> tuple[int, ...]:
    if len(dims) > MAX_AXES:
        raise ValueError(f"{label} has {len(dims)} dimensions; a bundle's have at most {MAX_AXES}")
    if any(size < 0 for size in dims):
        raise ValueError(f"{label} has a negative dimension")
    if math.prod(max(size, 1) for size in dims) > MAX_ELEMENTS:  # a size of 0 must not hide another of 2^62
        raise ValueError(f"{label} has the shape {dims}, more than {MAX_ELEMENTS} numbers")
    return tuple(dims)


def _fixed(data: memoryview, dtype: str, shape: tuple[int, ...], label: str) -> np.ndarray:
    numbers = numbers_of(data, dtype, label)
    if len(numbers) != math.prod(shape):
        raise ValueError(f"{label} has {len(data)} bytes of data, which do not fill {list(shape)} of {dtype}")
    check_finite(numbers, label)
    return numbers


def _packed(data: memoryview, shape: tuple[int, ...], label: str) -> np.ndarray | None:
    """Return packed varints, None where there are too many to be sizes; raises ValueError where they are miscounted."""
    ends = np.frombuffer(data, np.uint8) < 0x80  # the last byte of each varint
    count = int(np.count_nonzero(ends))
    if count != math.prod(shape) or not ends[-1]:
        raise ValueError(f"{label} has {count} numbers, which do not fill {list(shape)}")
    if count > MAX_READ:
        return None
    starts = [0, *(np.flatnonzero(ends) + 1).tolist()]
    return np.array([_signed(bytes(data[a:b]), label) for a, b in pairwise(starts)], np.int64)


def _signed(digits: bytes, label: str) -> int:
    if len(digits) > 10:
        raise ValueError(f"{label} holds a number that is too long")
    number = sum((digit & 0x7F) << 7 * place for place, digit in enumerate(digits)) & ((1 << 64) - 1)
    return number - (1 << 64) if number >> 63 else number


def _is_whole(dtype: str) -> bool:
    return np.dtype(dtype).kind in "iu"
