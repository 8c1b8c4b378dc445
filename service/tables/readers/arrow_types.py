"""The types of Arrow columns that are read as other types, for training as for scoring. Loaded only with pyarrow."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyarrow import compute


def plain_type(array: Any) -> Any:
    """Return an array, or a chunked one, in the type that the readers use; its values do not change.

    Decimals become the nearest floats and times of day become texts. Extension types become their storage; views and
    run-length arrays become plain arrays. So do dictionaries, except those of texts, which stay for speed.
    """
    array = _referring_to_texts(array) if _refers_to_views(array.type) else array
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in array.chunks] if isinstance(array, pa.ChunkedArray) else None
        return plain_type(array.storage if storage is None else pa.chunked_array(storage, kind.storage_type))
    if pa.types.is_run_end_encoded(kind):
        return plain_type(compute.run_end_decode(array))
    if pa.types.is_dictionary(kind):
        value_type = kind.value_type
        return array if _is_text(value_type) else plain_type(array.cast(value_type))
    if pa.types.is_decimal(kind):
        return array.cast(pa.string()).cast(pa.float64())  # Arrow's own cast is off by a bit for one value in four
    if pa.types.is_time(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    return array


def index_names(metadata: Mapping[bytes, bytes] | None) -> frozenset[str]:
    """Return the columns that hold the index of a pandas data frame, from the metadata of a schema."""
    try:
        index = json.loads((metadata or {}).get(b"pandas", b"{}"))["index_columns"]
    except (ValueError, KeyError, TypeError):
        return frozenset()
    return frozenset(name for name in index if isinstance(name, str)) if isinstance(index, list) else frozenset()


def _refers_to_views(kind: pa.DataType) -> bool:
    is_reference = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
    return bool(is_reference and pa.types.is_string_view(kind.value_type))


def _referring_to_texts(array: Any) -> Any:
    """Return a dictionary or a run-length array of views as one of texts: pyarrow decodes neither of views."""
    if isinstance(array, pa.ChunkedArray):
        chunks = [_referring_to_texts(chunk) for chunk in array.chunks]
        return pa.chunked_array(chunks) if chunks else pa.chunked_array([], pa.string())
    if pa.types.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(pa.string()))
    runs = pa.RunEndEncodedArray.from_arrays(array.run_ends, array.values.cast(pa.string()))
    return runs.slice(array.offset, len(array))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
