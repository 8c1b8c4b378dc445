"""NumPy's array files (application/x-npy), which SageMaker's NumPy serializers send and read.

A request is one two-dimensional array of numbers or booleans, [rows, features] in signature order; NaN is a missing
value. An answer is the array of probabilities [rows, classes], or of values
[rows, targets], behind which the quantiles of one target stand where there are any, float32.

Source: the format's description in numpy.lib.format, versions 1.0 to 3.0. The header is a Python literal; here it is
matched, never evaluated, and no memory is allocated for its shape before the body is seen to hold as many bytes.
"""

import io
import re
import struct

import numpy as np

from batchproof.service.bundle.signature import Signature
from batchproof.service.errors import FeatureError, ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.columns import encode_columns

MAGIC = b"\x93NUMPY"
LENGTHS = {1: struct.Struct("<H"), 2: struct.Struct("<I"), 3: struct.Struct("<I")}  # of the header, by major version
LENGTH_AT = 8  # behind the magic and two bytes of version
LEAST_BYTES = 12  # of the longest prefix: no file of an array is shorter
MAX_HEADER_BYTES = 1024  # numpy writes 118 for two dimensions
HEADER = re.compile(
    rb"""\{\s* ['"]descr['"]\s*:\s*['"]([<>|=]?(?:f[248]|[iu][1248]|b1))['"]\s*,
    \s* ['"]fortran_order['"]\s*:\s*(True|False)\s*,
    \s* ['"]shape['"]\s*:\s*\(\s*([0-9]{1,12})\s*,\s*([0-9]{1,12})\s*,?\s*\)\s*,?\s* \}\s*""",
    re.VERBOSE,
)


def arrays_of(signature: Signature, values: np.ndarray) -> Arrays:
    """Return the rows of an array [rows, columns]; raises 422 where it does not fit the model."""
    names = [feature.name for feature in signature.inputs]
    if values.shape[1] != len(names):
        raise _refuse(f"The array has {values.shape[1]} columns, but a row has {len(names)} features")
    try:
        return encode_columns(signature, dict(zip(names, values.T, strict=True)))
    except FeatureError as error:
        raise _refuse(str(error)) from error


def array_of(body: bytes) -> np.ndarray:
    """Return the array [rows, columns]; raises 400 for a broken file and 422 for another kind of array."""
    size = LENGTHS.get(body[6]) if len(body) >= LEAST_BYTES and body.startswith(MAGIC) else None
    if size is None:
        raise _broken("it does not begin like a file of format version 1, 2 or 3")
    (length,) = size.unpack_from(body, LENGTH_AT)
    start = LENGTH_AT + size.size
    literal = HEADER.fullmatch(body, start, start + length) if length <= MAX_HEADER_BYTES else None
    if literal is None:
        raise _refuse("The array file must hold a two-dimensional array of numbers, [rows, features]")
    descr, is_fortran, *shape = (part.decode() for part in literal.groups())
    dtype, rows, columns = np.dtype(descr), *map(int, shape)
    raw = memoryview(body)[start + length :]
    if len(raw) != rows * columns * dtype.itemsize:
        raise _broken(f"{len(raw)} bytes follow its header, which describes {rows * columns * dtype.itemsize}")
    if dtype.kind == "b" and (np.frombuffer(raw, np.uint8) > 1).any():
        raise _broken("a boolean is a byte 0 or 1")
    values = np.frombuffer(raw, dtype).reshape((rows, columns), order="F" if is_fortran == "True" else "C")
    return values.astype(dtype.newbyteorder("="), copy=False)


def file_of(values: np.ndarray) -> bytes:
    """Return the array file of `values`."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _broken(why: str) -> ServiceError:
    return ServiceError(400, "broken_npy", f"The body is not a NumPy array file: {why}.")


def _refuse(sentence: str) -> ServiceError:
    return ServiceError(422, "invalid_request", f"{sentence}.")
