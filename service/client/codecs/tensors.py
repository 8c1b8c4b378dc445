"""Columns to tensors of the Open Inference Protocol and back: no digits of numbers are written or read on the way.

Numbers and booleans go as binary tensors, NaN where missing. Texts go as JSON, where null and an empty text are two
things; the service also reads a list of texts faster than their binary form.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from batchproof.service.client.codecs.dataframes import ColumnValues
from batchproof.service.client.messages import Response
from batchproof.service.client.model import Description, Feature

LENGTH_HEADER = "inference-header-content-length"
DTYPES = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}
MATRIX = "features"

Tensor = tuple[dict[str, Any], bytes]  # its description, and its elements where they are binary


def packed(columns: Mapping[str, ColumnValues], model: Description) -> tuple[bytes, bytes] | None:
    """Return the JSON part and the binary part of a request for columns {feature: values}.

    Features that have no column are left to the service to name. None where a column holds what its tensor cannot.
    """
    features = [feature for feature in model.features if feature.name in columns]
    matrix = _matrix(columns, model.features) if len(features) == len(model.features) else None
    tensors = [_tensor(feature, columns[feature.name]) for feature in features] if matrix is None else [matrix]
    sendable = [tensor for tensor in tensors if tensor is not None]
    if len(sendable) < len(tensors):
        return None
    inputs = [description for description, _ in sendable]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return head.encode(), b"".join(binary for _, binary in sendable)


def unpacked(response: Response, model: Description) -> dict[str, np.ndarray]:
    """Return the columns that an answer adds: `prediction`, and `probability_<class>` float32; or `prediction_<target>`."""
    length = int(response.headers[LENGTH_HEADER])
    outputs, start = {}, length
    for output in json.loads(response.body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        outputs[output["name"]] = _elements(output, response.body[start : start + size])
        start += size
    if model.targets:
        return {f"prediction_{target}": outputs["value"][:, place] for place, target in enumerate(model.targets)}
    if model.classes is None:
        names = quantile_names(model)
        quantiles = {name: outputs["quantiles"][:, place] for place, name in enumerate(names)}
        return {"prediction": outputs["value"][:, 0], **quantiles}
    probabilities = {
        f"probability_{class_text(label)}": outputs["probabilities"][:, place]
        for place, label in enumerate(model.classes)
    }
    return {"prediction": outputs["label"][:, 0], **probabilities}


def quantile_names(model: Description) -> list[str]:
    """Return the names of the columns of quantiles."""
    return [f"quantile_{level!r}" for level in model.quantiles]


def class_text(label: Any) -> str:
    """Return a class as the service writes it in names."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def dates(values: np.ndarray) -> list[str | None]:
    """Return datetime64 [rows] as ISO 8601 texts, None where missing."""
    texts = np.datetime_as_string(values.astype("datetime64[us]")).astype(object)
    texts[np.isnat(values)] = None
    return texts.tolist()  # type: ignore[no-any-return]


def listed(values: ColumnValues) -> list[Any]:
    """Return a column [rows] as JSON values, None where missing; an infinite number stays, to be refused with its row."""
    if isinstance(values, list):
        return values
    if values.dtype.kind == "M":
        return dates(values)
    if values.dtype.kind != "f":
        return values.tolist()  # type: ignore[no-any-return]
    numbers = values.astype(np.float64).astype(object)
    numbers[np.isnan(values)] = None
    return numbers.tolist()  # type: ignore[no-any-return]


def _matrix(columns: Mapping[str, ColumnValues], features: Any) -> Tensor | None:
    """Return all features as one matrix; None where one of them is not a number, or has the name of the matrix."""
    if any(feature.kind != "numeric" or feature.name == MATRIX for feature in features):
        return None
    numbers = [_numbers(feature, columns[feature.name]) for feature in features]
    present = [column for column in numbers if column is not None]
    return _binary(MATRIX, "FP64", np.stack(present, axis=1)) if len(present) == len(numbers) else None


def _tensor(feature: Feature, values: ColumnValues) -> Tensor | None:
    if feature.value_type in ("string", "date"):
        return _texts(feature, values)
    if isinstance(values, np.ndarray) and values.dtype.kind == "b" and feature.value_type == "boolean":
        return _binary(feature.name, "BOOL", values[:, None])
    if feature.kind == "categorical":
        return _categories(feature, values)
    numbers = _numbers(feature, values)
    return None if numbers is None else _binary(feature.name, "FP64", numbers[:, None])


def _texts(feature: Feature, values: ColumnValues) -> Tensor | None:
    if isinstance(values, np.ndarray):
        return _json(feature.name, "BYTES", dates(values)) if values.dtype.kind == "M" else None
    return _json(feature.name, "BYTES", values) if _holds(values, str) else None


def _categories(feature: Feature, values: ColumnValues) -> Tensor | None:
    """Return categories that are whole numbers, or true and false; 64 bits of an integer do not fit into a float64."""
    if isinstance(values, list):
        kind, datatype = (bool, "BOOL") if feature.value_type == "boolean" else (int, "INT64")
        fits = _holds(values, kind) and all(value is None or -(1 << 63) <= value < 1 << 63 for value in values)
        return _json(feature.name, datatype, values) if fits else None
    kinds = {"i": ("INT64", "<i8"), "u": ("UINT64", "<u8"), "f": ("FP64", "<f8")}
    if values.dtype.kind not in kinds:
        return None
    datatype, dtype = kinds[values.dtype.kind]
    return _binary(feature.name, datatype, values.astype(dtype)[:, None])


def _numbers(feature: Feature, values: ColumnValues) -> np.ndarray | None:
    """Return the values [rows] as float64, NaN where missing; None where one of them is not a number."""
    is_boolean = feature.value_type == "boolean"
    if isinstance(values, np.ndarray):
        return values.astype("<f8") if values.dtype.kind in ("biuf" if is_boolean else "iuf") else None
    if not _holds(values, int, float, *([bool] if is_boolean else [])):
        return None
    try:
        return np.array([np.nan if value is None else value for value in values], "<f8")
    except OverflowError:
        return None


def _holds(values: list[Any], *kinds: type) -> bool:
    return set(map(type, values)) <= {*kinds, type(None)}


def _json(name: str, datatype: str, values: list[Any]) -> Tensor:
    return {"name": name, "datatype": datatype, "shape": [len(values), 1], "data": values}, b""


def _binary(name: str, datatype: str, values: np.ndarray) -> Tensor:
    elements = values.tobytes()
    parameters = {"binary_data_size": len(elements)}
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "parameters": parameters}, elements


def _elements(output: Mapping[str, Any], binary: bytes) -> np.ndarray:
    shape = tuple(output["shape"])
    if output["datatype"] != "BYTES":
        return np.frombuffer(binary, DTYPES[output["datatype"]]).reshape(shape)
    texts, start = [], 0
    while start < len(binary):
        size = int.from_bytes(binary[start : start + 4], "little")
        texts.append(binary[start + 4 : start + 4 + size].decode())
        start += 4 + size
    return np.array(texts, object).reshape(shape)
