"""Columns of a stranger that name one long value for many rows: how much they would take once each value is written out."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from batchproof.service.tables.block import invalid_table
from batchproof.service.tables.limits.budget import Unpacking

VIEW_BYTES = 16  # of each value, beside its text where that is long


def check_flat(fields: Collection[pa.Field]) -> None:
    """Refuse nested columns by name; raises 422."""
    for field in fields:
        if _is_nested(field.type):
            raise invalid_table(
                f"The column {field.name!r} is of type {field.type!s:.80}: lists, structs, runs and the like "
                "are not supported in requests; leave that column out."
            )


def check_texts(batch: pa.RecordBatch, unpacking: Unpacking) -> None:
    """Refuse a block whose texts, each written out, are too large."""
    total = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and is_text(column.type.value_type):
            total += compute.sum(compute.binary_length(column.dictionary).take(column.indices)).as_py() or 0
        elif pa.types.is_dictionary(column.type) and pa.types.is_fixed_size_binary(column.type.value_type):
            total += column.type.value_type.byte_width * len(column)
        elif _is_view(column.type):
            total += _viewed_bytes(column)
        elif is_text(column.type):
            total += column.nbytes
    unpacking.check(total)


def column_bytes(column: Any) -> int:
    """Return the bytes of an array as `nbytes` does, which pyarrow before 24 does not know of views."""
    return VIEW_BYTES * len(column) + _viewed_bytes(column) if _is_view(column.type) else int(column.nbytes)


def _is_view(kind: Any) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _viewed_bytes(column: Any) -> int:
    """Return what the values of a column of views take: each view has four int32, of which the first is a length."""
    if not len(column):
        return 0
    views = np.frombuffer(column.buffers()[1], np.int32, 4 * (column.offset + len(column)))
    return int(views[4 * column.offset :: 4].sum(dtype=np.int64))


def is_text(kind: Any) -> bool:
    """Return whether a column of this type holds texts, each of its own length."""
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _is_nested(kind: Any, *, is_inner: bool = False) -> bool:
    """Return whether a type is more than values, or than one reference to each, which `check_texts` follows."""
    if isinstance(kind, pa.BaseExtensionType):
        return _is_nested(kind.storage_type, is_inner=True)
    if pa.types.is_dictionary(kind):
        return is_inner or _is_nested(kind.value_type, is_inner=True)
    if _is_view(kind):
        return is_inner
    return bool(pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind))
