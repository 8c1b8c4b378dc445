"""A frame as requests, and their answers as columns; how they are carried is the clients' own. Needs numpy.

A frame goes as native JSON where it has fewer than BINARY_ROWS rows, and as binary tensors of the Open
Inference Protocol from there on: the answer is the same, bit for bit.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from batchproof.service.client import dataframes as frames
from batchproof.service.client import tensors
from batchproof.service.client.messages import Request, Response
from batchproof.service.client.model import ROWS_A_REQUEST, Address, Described, Prediction, predictions

BINARY_ROWS = 32  # between 10 rows, where JSON is the faster, and 100, where it is not: docs/client.md has the figures


def requests(address: Address, frame: Any, model: Described) -> Iterator[Request]:
    """Yield the requests for a frame, one where it has no row."""
    for part in frames.parts(frame, ROWS_A_REQUEST):
        rows = _plain(part, model) if len(part) < BINARY_ROWS else None
        yield address.tensors(*tensors.packed(part, model)) if rows is None else address.rows(rows, "stop")


def extended(frame: Any, responses: Sequence[Response], model: Described) -> Any:
    """Return the frame with the columns that the answers to its requests add."""
    parts = [_columns(response, model) for response in responses]
    return frames.extended(frame, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _plain(frame: Any, model: Described) -> list[dict[str, Any]] | None:
    """Return a frame's rows as JSON values; None where it has a value that only the binary protocol takes."""
    names = set(frames.names(frame))
    present = [feature.name for feature in model.features if feature.name in names]
    columns = [_values(frames.column(frame, name)) for name in present]
    rows = [dict(zip(present, row, strict=True)) for row in zip(*columns, strict=True)]
    kinds = {type(value) for row in rows for value in row.values()}
    is_finite = all(math.isfinite(value) for row in rows for value in row.values() if type(value) is float)
    return rows if rows and is_finite and kinds <= {str, int, float, bool, type(None)} else None


def _values(column: np.ndarray) -> list[Any]:
    if column.dtype.kind == "M":
        column = tensors.dates(column)
    return [None if value is None or value != value else value for value in column.tolist()]  # noqa: PLR0124 - NaN


def _columns(response: Response, model: Described) -> dict[str, np.ndarray]:
    """Return the columns that one answer adds: `prediction`, and `probability_<class>` float32."""
    if tensors.LENGTH_HEADER in response.headers:
        return tensors.unpacked(response, model)
    found = predictions(response)
    if model.classes is None:
        return {"prediction": np.array([one["value"] for one in found], np.float32)}
    names = [tensors.class_text(label) for label in model.classes]
    table = np.array([[one["probabilities"][name] for name in names] for one in found], np.float32)
    return {
        "prediction": _labels(found, model),
        **{f"probability_{name}": table[:, at] for at, name in enumerate(names)},
    }


def _labels(found: Sequence[Prediction], model: Described) -> np.ndarray:
    """Return labels with the type that the binary protocol gives them."""
    kinds = {type(label) for label in model.classes or ()}
    labels = [one["label"] for one in found]
    if kinds == {bool}:
        return np.array(labels, np.bool_)
    if kinds == {int} and all(-(1 << 63) <= label < 1 << 63 for label in model.classes or ()):
        return np.array(labels, np.int64)
    return np.array([tensors.class_text(label) for label in labels], np.object_)
