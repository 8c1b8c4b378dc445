"""A frame to binary tensors of the Open Inference Protocol and back: no digits are written or read on the way."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from batchproof.service.client import dataframes as frames
from batchproof.service.client.messages import Response
from batchproof.service.client.model import Described, Feature

LENGTH_HEADER = "inference-header-content-length"
DTYPES = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}


def packed(frame: Any, model: Described) -> tuple[bytes, bytes]:
    """Return the JSON part and the binary part of a request for the frame's rows.

    Columns that are no features are left out; for features that the frame has not, the service says so.
    """
    columns = set(frames.names(frame))
    present = [feature for feature in model.features if feature.name in columns]
    is_matrix = len(present) == len(model.features) and all(feature.kind == "numeric" for feature in present)
    if is_matrix and not any(feature.name == "features" for feature in present):
        tensors = [_matrix(frame, present)]
    else:
        tensors = [_tensor(feature, frames.column(frame, feature.name)) for feature in present]
    inputs = [description for description, _ in tensors]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return head.encode(), b"".join(binary for _, binary in tensors)


def unpacked(response: Response, model: Described) -> dict[str, np.ndarray]:
    """Return the columns that an answer adds: `prediction`, and `probability_<class>` float32."""
    length = int(response.headers[LENGTH_HEADER])
    described = json.loads(response.body[:length])["outputs"]
    found, at = {}, length
    for one in described:
        size = one["parameters"]["binary_data_size"]
        found[one["name"]] = _elements(one, response.body[at : at + size])
        at += size
    if model.classes is None:
        return {"prediction": found["value"][:, 0]}
    texts = [class_text(label) for label in model.classes]
    probabilities = {f"probability_{text}": found["probabilities"][:, place] for place, text in enumerate(texts)}
    return {"prediction": found["label"][:, 0], **probabilities}


def class_text(label: Any) -> str:
    """Return a class as the service writes it in names."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def dates(values: np.ndarray) -> np.ndarray:
    """Return datetime64 [rows] as ISO 8601 texts, None where missing."""
    texts = np.datetime_as_string(values.astype("datetime64[us]")).astype(object)
    texts[np.isnat(values)] = None
    return texts


def _matrix(frame: Any, features: list[Feature]) -> tuple[dict[str, Any], bytes]:
    columns = [_numbers(frames.column(frame, feature.name)) for feature in features]
    return _described("features", "FP64", np.stack(columns, axis=1))


def _tensor(feature: Feature, values: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """Return one feature's tensor; what has no binary form, such as a missing boolean, goes as JSON."""
    if values.dtype.kind == "b":
        return _described(feature.name, "BOOL", values[:, None])
    if values.dtype.kind in "iuf":
        return _described(feature.name, "FP64", _numbers(values)[:, None])
    if values.dtype.kind == "M":
        values = dates(values)
    listed = [None if value is None or value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN
    if all(value is None or isinstance(value, str) for value in listed) and feature.value_type in ("string", "date"):
        return _bytes(feature.name, listed)
    datatype = {"boolean": "BOOL"}.get(feature.value_type, "FP64")
    datatype = "BYTES" if feature.value_type in ("string", "date") else datatype
    return {"name": feature.name, "datatype": datatype, "shape": [len(listed), 1], "data": listed}, b""


def _bytes(name: str, texts: list[str | None]) -> tuple[dict[str, Any], bytes]:
    """Return texts, each with its length before it, missing ones empty; equal ones are packed once."""
    known = {text: _with_length((text or "").encode()) for text in set(texts)}
    binary = b"".join([known[text] for text in texts])
    parameters = {"binary_data_size": len(binary)}
    return {"name": name, "datatype": "BYTES", "shape": [len(texts), 1], "parameters": parameters}, binary


def _with_length(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def _described(name: str, datatype: str, values: np.ndarray) -> tuple[dict[str, Any], bytes]:
    binary = values.tobytes()
    parameters = {"binary_data_size": len(binary)}
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "parameters": parameters}, binary


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return [rows] float64; None is missing. Raises ValueError or TypeError for what is no number."""
    return values.astype("<f8")


def _elements(one: Mapping[str, Any], binary: bytes) -> np.ndarray:
    shape = tuple(one["shape"])
    if one["datatype"] != "BYTES":
        return np.frombuffer(binary, DTYPES[one["datatype"]]).reshape(shape)
    texts, at = [], 0
    while at < len(binary):
        (size,) = struct.unpack_from("<I", binary, at)
        texts.append(binary[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(texts, object).reshape(shape)
