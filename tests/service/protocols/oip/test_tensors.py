"""Datatypes, shapes and elements of tensors, as JSON and as bytes."""

import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.oip.tensors import (
    DTYPES,
    checked_datatype,
    checked_shape,
    from_binary,
    from_json,
    to_binary,
)


@pytest.mark.parametrize("datatype", DTYPES)
def test_bytes_are_little_endian_elements(datatype: str) -> None:
    """Each datatype's bytes are read as the numbers that numpy would write."""
    values = np.array([0, 1, 1, 0], DTYPES[datatype])
    found = from_binary("x", datatype, (2, 2), memoryview(values.tobytes()))
    assert np.array_equal(found, values)


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    """BF16 elements have exactly the values that ml_dtypes gives them."""
    values = np.array([1.5, -0.1, 3e38, 1e-38, np.nan], ml_dtypes.bfloat16)
    found = from_binary("x", "BF16", (5,), memoryview(values.tobytes()))
    assert np.array_equal(found, values.astype(np.float32), equal_nan=True)


@given(st.lists(st.text()))
def test_texts_come_back(texts: list[str]) -> None:
    """BYTES elements written and read are the same texts."""
    assert from_binary("x", "BYTES", (len(texts),), memoryview(to_binary(texts))) == texts


@pytest.mark.parametrize(
    "datatype, data, values",
    [
        ("FP64", [[1, 2], [4, 5.5]], [1, 2, 4, 5.5]),
        ("FP64", [1, 2, 4, 5.5], [1, 2, 4, 5.5]),
        ("FP32", [0.1, 1e-50, 2, 3], [np.float32(0.1), 0, 2, 3]),
        ("FP64", [None, 1, 2, 3], [np.nan, 1, 2, 3]),
        ("INT8", [1.0, -128, 127, 0], [1, -128, 127, 0]),
        ("UINT64", [0, 2**64 - 1, 1, 2], [0, 2**64 - 1, 1, 2]),
        ("FP64", [10**400, -(10**400), 0, 0], [np.inf, -np.inf, 0, 0]),
    ],
)
def test_json_elements(datatype: str, data: list[Any], values: list[float]) -> None:
    """Flat and nested lists are one tensor, rounded to the declared type; null is NaN where there is one."""
    found = from_json("x", datatype, (2, 2), data)
    assert np.array_equal(found, np.array(values, DTYPES[datatype]), equal_nan=True)


def test_missing_integers_stay_none() -> None:
    """A type without NaN keeps null as None."""
    assert from_json("x", "INT64", (2,), [None, 3]) == [None, 3]


@pytest.mark.parametrize(
    "datatype, shape, data, sentence",
    [
        ("FP64", (2, 2), [[1, 2], [3]], "Shape does not match true shape of 'data'"),
        ("FP64", (2, 2), [1, 2, 3], "Shape does not match"),
        ("FP64", (2, 2), [[1, 2, 3, 4]], "Shape does not match"),
        ("FP64", (2, 2), [1, [2], 3, 4], "Shape does not match"),
        ("FP64", (1, 2), [[[1, 2]]], "Shape does not match"),
        ("FP64", (1,), None, "needs 'data'"),
        ("FP64", (1,), "1", "needs 'data'"),
        ("FP64", (1,), [True], "element 0 is bool"),
        ("FP64", (1,), ["1"], "element 0 is str"),
        ("INT64", (2,), [1, 1.5], "element 1 is 1.5, not a whole number as INT64 has"),
        ("INT64", (1,), [float("nan")], "not a whole number as INT64 has"),
        ("INT64", (1,), [float("inf")], "not a whole number as INT64 has"),
        ("INT64", (1,), [10**400], "beyond INT64"),
        ("UINT8", (1,), [256], "beyond UINT8"),
        ("BOOL", (1,), [1], "element 0 is int"),
        ("BYTES", (1,), [1], "element 0 is int"),
        ("FP16", (1,), [1.0], "FP16 has no JSON form"),
        ("BF16", (1,), [1.0], "BF16 has no JSON form"),
    ],
)
def test_wrong_json(datatype: str, shape: tuple[int, ...], data: Any, sentence: str) -> None:
    """Data that is not the declared tensor is refused with the place of the fault."""
    with pytest.raises(ServiceError, match=sentence) as caught:
        from_json("x", datatype, shape, data)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "datatype, shape, raw, sentence",
    [
        ("FP64", (2,), bytes(15), "expecting 16 bytes but got 15"),
        ("FP32", (2,), bytes(16), "expecting 8 bytes but got 16"),
        ("BOOL", (2,), b"\x00\x02", "a BOOL is a byte 0 or 1"),
        ("BYTES", (1,), b"\x01\x00\x00", "the length before a BYTES element is cut off"),
        ("BYTES", (1,), struct.pack("<I", 9) + b"short", "9 bytes is cut off"),
        ("BYTES", (1,), struct.pack("<I", 1) + b"\xff", "not UTF-8"),
        ("BYTES", (2,), struct.pack("<I", 1) + b"a", "holds 1 elements"),
    ],
)
def test_wrong_bytes(datatype: str, shape: tuple[int, ...], raw: bytes, sentence: str) -> None:
    """Bytes that are not the declared tensor are refused."""
    with pytest.raises(ServiceError, match=sentence):
        from_binary("x", datatype, shape, memoryview(raw))


@pytest.mark.parametrize(
    "shape", [None, [], 3, ["3"], [True], [-1], [1.0], [1 << 41], [1 << 21] * 2, [1] * 9, [0] + [1 << 62] * 3]
)
def test_wrong_shapes(shape: Any) -> None:
    """A shape is a short list of sizes whose product is a size as well."""
    with pytest.raises(ServiceError, match="shape"):
        checked_shape("x", shape)


@pytest.mark.parametrize("datatype", [None, 3, "fp32", "FP8", ["FP32"], "STRING"])
def test_unknown_datatypes(datatype: Any) -> None:
    """A datatype is one of the protocol's."""
    with pytest.raises(ServiceError, match="unknown datatype"):
        checked_datatype("x", datatype)
