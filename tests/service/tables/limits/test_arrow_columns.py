"""The size of columns that refer to their values."""

import pyarrow as pa
import pytest

from batchproof.service.tables.limits.arrow_columns import VIEW_BYTES, column_bytes

TEXTS = ["short", None, "a text that is not short enough to stand in its view", "x"] * 5


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()], ids=str)
@pytest.mark.parametrize("part", [slice(0, 20), slice(3, 11), slice(7, 7)], ids=str)
def test_views_count_with_their_texts(kind: pa.DataType, part: slice) -> None:
    """With every pyarrow that is allowed, a column of views has a size: its views and the texts of its own rows."""
    column = pa.array(TEXTS, kind)[part]
    assert column_bytes(column) == sum(VIEW_BYTES + len(text or "") for text in TEXTS[part])


@pytest.mark.parametrize("column", [pa.array(TEXTS), pa.array([1.5, None]), pa.array(TEXTS).dictionary_encode()])
def test_other_columns_have_the_size_that_pyarrow_says(column: pa.Array) -> None:
    """What is no view is counted by pyarrow."""
    assert column_bytes(column) == column.nbytes
