"""Frames of pandas, polars and pyarrow, predicted in this process: read as Arrow columns, as tables over HTTP are."""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.signature import Feature
from batchproof.service.client.codecs import dataframes
from batchproof.service.client.codecs.values import json_values
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays, numbers_of
from batchproof.service.features.columns import encode_column
from batchproof.service.features.row_encoder import Encoder, Problem
from batchproof.service.inference.model import Model
from batchproof.service.tables.block import Column, Read, Reading, places_of, read_columns
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.readers.arrow import encode_array
from batchproof.service.tables.readers.arrow import json_values as arrow_values
from batchproof.service.tables.readers.arrow_types import plain_type
from batchproof.service.tables.writers.result_columns import ResultColumns

BLOCK_ROWS = 65_536  # rows that are encoded and run together
ERROR_LIMIT = 20  # problems that a refusal lists
LABEL_TYPES = {"BOOL": np.dtype(np.bool_), "INT64": np.dtype(np.int64), "BYTES": np.dtype(np.object_)}
PARAMETERS = Parameters(extra="ignore")


def predict_frame(model: Model, frame: Any) -> Any:
    """Return the frame with the columns that the model adds; raises ServiceError where the model refuses it."""
    frame = _known(frame)
    columns = _columns(model.encoder, frame)
    added = ResultColumns(model.manifest, PARAMETERS)
    added.check([str(name) for name in _names(frame)])
    outputs = [_run(model, columns, start, len(frame)) for start in range(0, max(len(frame), 1), BLOCK_ROWS)]
    values = np.concatenate(outputs)
    results = _results(added, values)
    if isinstance(frame, pa.Table):
        for name, result in results.items():
            frame = frame.append_column(name, pa.array(result))
        return frame
    return dataframes.extended(frame, results)


def arrays_of(encoder: Encoder, frame: Any) -> Arrays:
    """Return a frame's rows as the graph's inputs; raises ServiceError where a feature or a value is refused."""
    frame = _known(frame)
    return _read(encoder, _columns(encoder, frame), 0, len(frame)).arrays


def _known(frame: Any) -> Any:
    """Return a frame of pandas or polars as it is, a lazy one computed, and any other as an Arrow table."""
    return dataframes.collected(frame) if dataframes.is_frame(frame) else pa.table(frame)


def _columns(encoder: Encoder, frame: Any) -> list[Any]:
    """Return each feature's column as Arrow, or as a list of values that Arrow has no one type for."""
    names = [str(name) for name in _names(frame)]
    places = places_of(names, Reading(encoder, PARAMETERS, BLOCK_ROWS))
    return [_arrow(_column(frame, place)) for place in places]


def _names(frame: Any) -> list[Any]:
    return list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)


def _column(frame: Any, place: int) -> Any:
    if isinstance(frame, pa.Table):
        return frame.column(place)
    return frame.iloc[:, place] if hasattr(frame, "iloc") else frame.get_columns()[place]


def _arrow(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        return column
    if not hasattr(column, "iloc"):
        return column.to_list() if str(column.dtype) == "Object" else pa.chunked_array([column.to_arrow()])
    if column.dtype == object and not _has_one_type(column):
        return column.tolist()
    try:
        array = pa.Array.from_pandas(column)
    except pa.ArrowException:
        return column.tolist()
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _has_one_type(column: Any) -> bool:
    """Return whether an object column holds values of one type: Arrow would make 1.0 of True beside a number."""
    kinds = {type(value).__name__ for value in column} - {"NoneType", "NAType", "NaTType"}
    return len(kinds) <= 1 or kinds == {"str", "float"}  # pandas writes NaN for a missing text


def _run(model: Model, columns: list[Any], start: int, rows: int) -> np.ndarray:
    """Return the numbers of one block, [rows, columns] float32; raises ServiceError where a row is refused."""
    read = _read(model.encoder, columns, start, min(start + BLOCK_ROWS, rows))
    (outputs,) = model.runner.run([read.arrays])
    return numbers_of(outputs)


def _read(encoder: Encoder, columns: list[Any], start: int, stop: int) -> Read:
    """Return the rows from `start` to `stop`; raises ServiceError where one is refused."""
    signature = encoder.signature
    block = [_block(feature, column, start, stop) for feature, column in zip(signature.inputs, columns, strict=True)]
    read = read_columns(signature, stop - start, block)
    if read.problems:
        raise _refusal(read, start)
    return read


def _block(feature: Feature, column: Any, start: int, stop: int) -> Column:
    if isinstance(column, list):
        values = json_values(column[start:stop])
        return Column(partial(encode_column, feature, values), lambda: values)
    array = plain_type(_joined(column.slice(start, stop - start)))
    return Column(partial(encode_array, feature, array), partial(arrow_values, array))


def _joined(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece."""
    joined = column.combine_chunks()
    if isinstance(joined, pa.ChunkedArray):  # as older versions of pyarrow return it
        return joined.chunk(0) if joined.num_chunks else pa.array([], joined.type)
    return joined


def _refusal(read: Read, start: int) -> ServiceError:
    problems = [problem._replace(row=start + (problem.row or 0)) for problem in read.problems]
    first: Problem = problems[0]
    more = f" ({len(problems) - 1} more in details.)" if len(problems) > 1 else ""
    sentence = f"row {first.row}, feature {first.feature!r}: {first.message}.".replace("..", ".").replace("?.", "?")
    details = [problem._asdict() for problem in problems[:ERROR_LIMIT]]
    truncated = len(problems) > ERROR_LIMIT
    return ServiceError(422, "invalid_rows", sentence + more, details=details, truncated=truncated)


def _results(added: ResultColumns, values: np.ndarray) -> dict[str, np.ndarray]:
    if added.output == "value":
        names, columns = [*added.predictions, *added.quantiles], {}
    else:
        labels = np.array(added.labels, LABEL_TYPES[added.datatype])
        names, columns = added.probabilities, {added.prediction: labels[added.manifest.label_places(values)]}
    return columns | {name: np.ascontiguousarray(values[:, place]) for place, name in enumerate(names)}
