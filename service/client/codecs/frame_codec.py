"""Encode a frame as requests, and decode their answers to columns; the clients do the transport. Needs numpy.

A part of a frame with fewer than BINARY_ROWS rows is sent as native JSON, a longer part as tensors of the Open Inference
Protocol; the answer is the same, bit for bit. Values that tensors cannot hold are sent as JSON at any length. A refused part
is sent again as JSON, so that the refusal has the same words for frames of every length.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from batchproof.service.client.codecs import dataframes as frames
from batchproof.service.client.codecs import tensors
from batchproof.service.client.codecs.row_codec import EncodedRows, Prediction, encoded, predictions
from batchproof.service.client.messages import Request, Response
from batchproof.service.client.model import Address, Description
from batchproof.service.client.options import Options

BINARY_ROWS = 32  # between 10 rows, where JSON is the faster, and 100, where it is not: docs/client.md has the figures


class FramePart:
    """Rows of a frame that go in one request."""

    def __init__(self, frame: Any, first_row: int, model: Description, options: Options) -> None:
        """Read the features' columns of `frame`, whose first row is row `first_row` of the caller's."""
        names = set(frames.names(frame))
        present = [feature for feature in model.features if feature.name in names]
        self._columns = {feature.name: frames.column(frame, feature.name, feature.kind) for feature in present}
        self._rows = len(frame)
        self._first_row = first_row
        self._model = model
        self._options = options

    def tensors(self, address: Address) -> Request | None:
        """Return the request in tensors; None where this part goes as JSON."""
        if self._options.adds_fields or 0 < self._rows < BINARY_ROWS:
            return None
        packed = tensors.packed(self._columns, self._model)
        return None if packed is None else address.tensors(*packed, self._first_row)

    def rows(self) -> EncodedRows:
        """Return the rows as the body of a native request; raises RefusedError."""
        columns = [tensors.listed(values) for values in self._columns.values()]
        rows = [dict(zip(self._columns, row, strict=True)) for row in zip(*columns, strict=True)]
        return encoded(rows or [{}] * self._rows, self._options, self._first_row, self._model.features)

    def columns_of_rows(self, response: Response, request: EncodedRows) -> dict[str, Any]:
        """Return the columns that a native answer adds."""
        answered = predictions(response, request)
        return _columns(answered, self._model) | _option_columns(answered, self._options, self._model)

    def columns_of_tensors(self, response: Response) -> dict[str, Any]:
        """Return the columns that an answer in tensors adds."""
        return tensors.unpacked(response, self._model)


def extended(frame: Any, parts: Sequence[Mapping[str, Any]]) -> Any:
    """Return the frame with the columns that the answers to its parts add."""
    return frames.extended(frame, {name: _joined([part[name] for part in parts]) for name in parts[0]})


def _joined(parts: list[Any]) -> Any:
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else list(chain.from_iterable(parts))


def _columns(answered: Sequence[Prediction], model: Description) -> dict[str, Any]:
    """Return `prediction`, and `probability_<class>` or `quantile_<level>` float32; or `prediction_<target>` float32."""
    if model.targets:
        rows = [prediction["values"] for prediction in answered]
        return {f"prediction_{target}": np.array([row[target] for row in rows], np.float32) for target in model.targets}
    if model.classes is None:
        values = np.array([prediction["value"] for prediction in answered], np.float32)
        quantiles = {
            name: np.array([one["quantiles"][repr(level)] for one in answered], np.float32)
            for name, level in zip(tensors.quantile_names(model), model.quantiles, strict=True)
        }
        return {"prediction": values, **quantiles}
    names = [tensors.class_text(label) for label in model.classes]
    listed = [[prediction["probabilities"][name] for name in names] for prediction in answered]
    table = np.array(listed, np.float32).reshape(-1, len(names))
    return {
        "prediction": _labels(answered, model),
        **{f"probability_{name}": table[:, place] for place, name in enumerate(names)},
    }


def _labels(answered: Sequence[Prediction], model: Description) -> np.ndarray:
    """Return labels with the type that the binary protocol gives them."""
    kinds = {type(label) for label in model.classes or ()}
    labels = [prediction["label"] for prediction in answered]
    if kinds == {bool}:
        return np.array(labels, np.bool_)
    if kinds == {int} and all(-(1 << 63) <= label < 1 << 63 for label in model.classes or ()):
        return np.array(labels, np.int64)
    return np.array([tensors.class_text(label) for label in labels], np.object_)


def _option_columns(answered: Sequence[Prediction], options: Options, model: Description) -> dict[str, Any]:
    """Return what `coverage`, `detail` and `explain` add: one column for each number, a list for a set and for names."""
    columns: dict[str, Any] = {}
    if options.coverage is not None and model.targets:
        columns |= _interval_columns(answered, model)
    elif options.coverage is not None and model.classes is None:
        bounds = np.array([prediction["interval"] for prediction in answered], np.float32).reshape(-1, 2)
        columns |= {"interval_low": bounds[:, 0], "interval_high": bounds[:, 1]}
    elif options.coverage is not None:
        columns["set"] = [prediction["set"] for prediction in answered]
    if options.detail:
        for name in ("unseen", "out_of_range"):  # a service of before these answers without them
            columns[name] = [prediction.get(name, []) for prediction in answered]
        if model.fingerprint.get("arithmetic") == "exact":
            columns["saturated"] = np.array([prediction["saturated"] for prediction in answered], np.bool_)
    if options.explain and not model.targets:
        columns |= _explanation_columns([prediction["explanation"] for prediction in answered], model, "")
    elif options.explain:
        for target in model.targets:
            explained = [prediction["explanations"][target] for prediction in answered]
            columns |= _explanation_columns(explained, model, f"_{target}")
    return columns


def _interval_columns(answered: Sequence[Prediction], model: Description) -> dict[str, Any]:
    """Return the ends of each target's interval."""
    columns: dict[str, Any] = {}
    for target in model.targets:
        bounds = np.array([prediction["intervals"][target] for prediction in answered], np.float32).reshape(-1, 2)
        columns |= {f"interval_low_{target}": bounds[:, 0], f"interval_high_{target}": bounds[:, 1]}
    return columns


def _explanation_columns(explained: Sequence[Mapping[str, Any]], model: Description, suffix: str) -> dict[str, Any]:
    """Return what explanations of one number say; the names of the columns end in `suffix`."""
    columns = {
        f"{name}{suffix}": np.array([explanation[name] for explanation in explained], np.float64)
        for name in ("score", "baseline")
    }
    for feature in model.features:
        added = [explanation["contributions"][feature.name] for explanation in explained]
        columns[f"contribution_{feature.name}{suffix}"] = np.array(added, np.float64)
    return columns
