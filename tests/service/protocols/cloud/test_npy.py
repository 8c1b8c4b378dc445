"""NumPy's array files as rows, and as an answer."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.protocols.cloud import npy
from batchproof.service.protocols.cloud.request import ScoringReader
from batchproof.service.protocols.interface import Call, Limits
from tests.bundles import INPUTS, NUMBERS, signature_of

SIGNATURE = signature_of(inputs=NUMBERS)
VALUES = np.array([[0.1, 2, -3.5, 0, 1], [1e-3, 7, 8, 9, np.nan]])
DTYPES = st.sampled_from(["<f2", "<f4", ">f4", "<f8", ">f8", "i1", "<i2", ">i4", "<i8", "u1", "<u2", ">u4", "<u8", "?"])


def saved(values: Any, version: tuple[int, int] | None = None) -> bytes:
    """Return the file that numpy writes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(values), version, allow_pickle=False)
    return file.getvalue()


def file_with(header: bytes, data: bytes = b"", version: int = 1) -> bytes:
    """Return a file with a header of one's own."""
    return npy.MAGIC + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header + data


@given(arrays.arrays(DTYPES, arrays.array_shapes(min_dims=2, max_dims=2, min_side=0)), st.booleans(), st.data())
def test_an_array_is_what_numpy_loads(values: np.ndarray, is_fortran: bool, data: st.DataObject) -> None:  # noqa: FBT001
    """Every number type, byte order, memory order and version gives the array that numpy itself loads."""
    written = np.asfortranarray(values) if is_fortran else values
    found = npy.array_of(saved(written, data.draw(st.sampled_from([(1, 0), (2, 0), (3, 0)]))))
    wanted = np.load(io.BytesIO(saved(written)), allow_pickle=False)
    assert found.dtype == wanted.dtype.newbyteorder("=")
    assert np.array_equal(found, wanted, equal_nan=found.dtype.kind == "f")


def test_the_rows_are_the_encoders() -> None:
    """An array gives the arrays that JSON rows give, bit for bit; NaN is null."""
    rows = [[None if np.isnan(value) else value for value in row] for row in VALUES.tolist()]
    wanted = Encoder(SIGNATURE).encode_rows(rows).arrays.numeric
    found = npy.arrays_of(SIGNATURE, VALUES).numeric
    assert wanted is not None
    assert found is not None
    assert found.tobytes() == wanted.tobytes()


@given(
    arrays.arrays(DTYPES, st.tuples(st.integers(0, 4), st.integers(4, 6)), elements={"allow_nan": True}),
    st.integers(1, 4),
)
def test_numbers_are_read_where_they_arrive_as_anywhere(values: np.ndarray, max_rows: int) -> None:
    """The quick reading takes every array of numbers with the rows and the refusals of the other one, and leaves booleans to it."""
    reader = ScoringReader(Encoder(SIGNATURE), Limits(max_rows=max_rows))
    call = Call(saved(values), [(b"content-type", b"application/x-npy")], "")

    def outcome(read: Any) -> Any:
        try:
            decoded = read(call)
        except ServiceError as error:
            return error.status, error.message
        return None if decoded is None else (decoded.arrays.numeric.tobytes(), decoded.rows, decoded.note)

    assert outcome(reader.read_raw) == (None if values.dtype.kind == "b" else outcome(reader.read))


def test_other_bodies_are_not_read_where_they_arrive() -> None:
    """Arrays for features that are no numbers are read one by one, and JSON is no array."""
    call = Call(saved(VALUES), [(b"content-type", b"application/x-npy")], "")
    assert ScoringReader(Encoder(signature_of(inputs=INPUTS)), Limits()).read_raw(call) is None
    assert ScoringReader(Encoder(SIGNATURE), Limits()).read_raw(Call(b"{}", [], "")) is None


def test_an_answer_is_loaded_by_numpy() -> None:
    """The written file is the array again."""
    values = np.array([[0.25, 0.75]], np.float32)
    found = np.load(io.BytesIO(npy.file_of(values)), allow_pickle=False)
    assert (found.dtype, found.tolist()) == (np.float32, values.tolist())


HUGE = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999, 5), }"
ONE_ROW = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 5), }"
CALL = b"{'descr': '<f8', 'fortran_order': False, 'shape': (int('1'), 5), }"


@pytest.mark.parametrize(
    "body, status, sentence",
    [
        (b"", 400, "does not begin"),
        (b"\x93NUMPY\x01\x00", 400, "does not begin"),
        (file_with(HUGE, version=4), 400, "version 1, 2 or 3"),
        (saved(VALUES)[:-1], 400, "79 bytes follow its header, which describes 80"),
        (saved(VALUES) + b"x", 400, "81 bytes"),
        (file_with(HUGE, bytes(80)), 400, "describes 39999999999960"),
        (file_with(CALL, bytes(40)), 422, "two-dimensional array of numbers"),
        (file_with(b" " * 2000 + HUGE), 422, "two-dimensional"),
        (file_with(ONE_ROW.ljust(1025), bytes(40)), 422, "two-dimensional"),
        (file_with(HUGE, version=2)[:20], 422, "two-dimensional"),
        (saved(VALUES[0]), 422, "two-dimensional"),
        (saved(VALUES[None]), 422, "two-dimensional"),
        (saved(np.array([["a"]])), 422, "array of numbers"),
        (saved(np.array([[1j]])), 422, "array of numbers"),
        (saved(np.array([[True] * 5])).replace(b"\x01" * 5, b"\x02" * 5), 400, "a boolean is a byte 0 or 1"),
        (saved(VALUES[:, :4]), 422, "The array has 4 columns, but a row has 5 features"),
        (saved(np.full((1, 5), np.inf)), 422, "row 0, feature 'f0'.*finite"),
        (saved(np.full((1, 5), np.nan)), 422, "row 0, feature 'f0'"),
    ],
)
def test_refusals(body: bytes, status: int, sentence: str) -> None:
    """A broken file and an array that is no rows are refused, and nothing is made as large as a header claims."""
    with pytest.raises(ServiceError, match=sentence) as caught:
        npy.arrays_of(SIGNATURE, npy.array_of(body))
    assert caught.value.status == status


def test_pickles_are_no_rows() -> None:
    """An array of objects, which numpy would unpickle, is refused by its header alone."""
    file = io.BytesIO()
    np.save(file, np.array([[None] * 5], object), allow_pickle=True)
    with pytest.raises(ServiceError, match="array of numbers"):
        npy.array_of(file.getvalue())


def test_a_text_feature_takes_no_numbers() -> None:
    """Where a feature is text, numbers are refused by its name."""
    with pytest.raises(ServiceError, match="feature 'island'"):
        npy.arrays_of(signature_of(inputs=INPUTS), np.ones((1, len(INPUTS))))
