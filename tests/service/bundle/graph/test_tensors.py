"""Tensors whose shape claims more than the file holds are refused, before anything is allocated."""

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.service.bundle.graph import tensors
from batchproof.service.bundle.graph.fields import TENSOR
from batchproof.service.bundle.graph.protobuf import Message
from batchproof.service.bundle.graph.tensors import Constant


def read(tensor: onnx.TensorProto) -> Constant:
    return tensors.read(Message(memoryview(tensor.SerializeToString()), "tensor", TENSOR))


def claiming(dims: list[int], data: bytes = b"", kind: int = TensorProto.DOUBLE) -> onnx.TensorProto:
    return onnx.TensorProto(name="w", data_type=kind, dims=dims, raw_data=data or None)


@pytest.mark.parametrize(
    "tensor, reason",
    [
        (claiming([1 << 30]), "has no data for its shape"),
        (claiming([3]), "has no data for its shape"),
        (claiming([]), "has no data for its shape"),
        (claiming([1 << 40]), "more than 2147483648 numbers"),
        (claiming([1 << 62, 4]), "more than 2147483648 numbers"),
        (claiming([0, 1 << 62]), "more than 2147483648 numbers"),
        (claiming([1] * 9, b"a"), "has 9 dimensions; a bundle's have at most 8"),
        (claiming([1 << 40] * 200_000, b"a"), "has 200000 dimensions"),
        (claiming([2], b"a" * 8), "has 8 bytes of data, which do not fill"),
        (claiming([1], b"\x02", TensorProto.BOOL), "holds a truth value other than 0 and 1"),
        (helper.make_tensor("w", TensorProto.INT64, [2], [1, 2, 3][:2]), ""),
        (onnx.TensorProto(name="w", data_type=7, dims=[3], int64_data=[1, 2]), "has 2 numbers, which do not fill"),
        (onnx.TensorProto(name="w", data_type=7, dims=[1], float_data=[1.0]), "has its data in float_data"),
        (onnx.TensorProto(name="w", data_type=1, dims=[1], float_data=[1.0], raw_data=b"abcd"), "raw_data and float"),
    ],
)
def test_shape_is_filled_by_data(tensor: onnx.TensorProto, reason: str) -> None:
    """The data of a tensor, in one field, is as long as its shape says, and the shape is of a size that can be."""
    if not reason:
        read(tensor)
        return
    with pytest.raises(ValueError, match=f"the weight 'w'.*{reason}"):
        read(tensor)


def test_dimensions_are_read_once() -> None:
    """Ten times as many dimensions take about ten times the work to refuse, not a hundred times."""

    def work_s(count: int) -> float:
        tensor = claiming([1 << 40] * count, b"a")
        started_s = time.process_time()
        with pytest.raises(ValueError, match=f"has {count} dimensions"):
            read(tensor)
        return time.process_time() - started_s

    assert work_s(200_000) < 40 * work_s(20_000)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8])
@pytest.mark.parametrize("stored", ["raw", "packed"])
def test_whole_numbers_are_read(dtype: type, stored: str) -> None:
    """Whole numbers are read as they are stored, packed or raw."""
    limits = np.iinfo(dtype)
    array = np.array([[0, 1, limits.max], [limits.min, 100, 7]], dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    tensor = numpy_helper.from_array(array) if stored == "raw" else helper.make_tensor("w", kind, [2, 3], array.ravel())
    constant = read(tensor)
    assert (constant.dtype, constant.shape) == (np.dtype(dtype).name, (2, 3))
    assert constant.whole is not None
    assert constant.whole.tolist() == array.ravel().tolist()


def test_empty_tensor_passes() -> None:
    """A shape with a 0 in it needs no data."""
    assert read(claiming([0, 4])).shape == (0, 4)


def test_a_number_longer_than_64_bits_is_refused() -> None:
    """A packed number of more digits than any 64-bit integer has is refused, and none of its digits is cut off."""
    too_long = b"\x80" * 10 + b"\x01"
    raw = b"\x08\x01\x10\x07\x3a" + bytes([len(too_long)]) + too_long  # dims, data_type INT64, int64_data
    with pytest.raises(ValueError, match="the weight '' holds a number that is too long"):
        tensors.read(Message(memoryview(raw), "tensor", TENSOR))


def test_many_packed_numbers_are_counted_but_not_read() -> None:
    """Packed numbers beyond those that sizes could be are no sizes: their values stay unread, whatever they are."""
    few, many = tensors.MAX_READ, tensors.MAX_READ + 1
    assert read(helper.make_tensor("w", TensorProto.INT64, [few], [7] * few)).whole is not None
    assert read(helper.make_tensor("w", TensorProto.INT64, [many], [7] * many)).whole is None
