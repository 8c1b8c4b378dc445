"""An infer request of the Open Inference Protocol to the model's arrays: JSON, binary tensors, and both mixed.

bytes -> uncompressed -> JSON part and binary part -> tensors -> the matrix `features`, or one tensor a feature.

Source: the protocol's REST specification and its binary data extension; the sentences are the ones that clients of
Triton know. NaN in a floating-point tensor, null in JSON and an empty BYTES element (unless "" is a category) stand
for a missing value.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from service import errors
from service.columns import encode_column
from service.errors import FeatureError, ServiceError
from service.features import Arrays, split
from service.manifest import Feature, Manifest
from service.wire.compression import header, unpacked
from service.wire.dialect import Call, Decoded, Limits
from service.wire.tensors import Elements, checked_datatype, checked_shape, from_binary, from_json, refuse

MATRIX = "features"
LENGTH = b"inference-header-content-length"


class Tensor(NamedTuple):
    """One input of a request."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: Elements


class Wanted(NamedTuple):
    """What the answer must hold: the request's id, and each output's name with whether it goes out as binary."""

    id: str | None
    outputs: Sequence[tuple[str, bool]]


class RequestReader:
    """One model's infer requests."""

    def __init__(self, manifest: Manifest, outputs: Sequence[str], limits: Limits) -> None:
        """Prepare the names that a request may use."""
        self._signature = manifest.signature
        self._model = manifest.name
        self._outputs = tuple(outputs)
        self._limits = limits
        self._names = [feature.name for feature in manifest.signature.inputs]
        self._takes_matrix = takes_matrix(manifest)

    def read(self, call: Call) -> Decoded:
        """Return the rows and what was asked for; raises 400, 413 or 415."""
        body = unpacked(call.body, call.headers, self._limits.max_body_bytes)
        length = header_length(header(call.headers, LENGTH), len(body))
        if length == 0:
            return self._raw(body)
        content = _content(body[:length])
        tensors = self._tensors(content, memoryview(body)[length:])
        wanted = self._wanted(content)
        arrays, rows = self._arrays(tensors)
        if rows > self._limits.max_rows:
            raise refuse(f"the request has {rows} rows; at most {self._limits.max_rows} are taken")
        return Decoded(arrays, rows, wanted)

    def _raw(self, body: bytes) -> Decoded:
        """Take the body as the bytes of one row of the matrix; every output goes out as binary."""
        if not self._takes_matrix:
            raise refuse(f"raw binary data needs a model with one input; '{self._model}' has {len(self._names)}")
        shape = (1, len(self._names))
        elements = from_binary(MATRIX, "FP64", shape, memoryview(body))
        arrays, rows = self._arrays([Tensor(MATRIX, "FP64", shape, elements)])
        return Decoded(arrays, rows, Wanted(None, [(name, True) for name in self._outputs]))

    def _tensors(self, content: Mapping[str, Any], binary: memoryview) -> list[Tensor]:
        inputs = content.get("inputs")
        if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
            raise refuse("Unable to parse 'inputs': it must be a list of objects")
        tensors, at = [], 0
        for one in inputs:
            tensor, size = self._tensor(one, binary[at:])
            tensors.append(tensor)
            at += size
        if at != len(binary):
            raise refuse(
                f"unexpected additional input data for model '{self._model}': {len(binary) - at} bytes are left"
            )
        return tensors

    def _tensor(self, one: Mapping[str, Any], binary: memoryview) -> tuple[Tensor, int]:
        name = one.get("name")
        if not isinstance(name, str):
            raise refuse("every input needs a 'name'")
        shape = checked_shape(name, one.get("shape"))
        datatype = checked_datatype(name, one.get("datatype"))
        parameters = _parameters(one, f"input '{name}'")
        size = parameters.get("binary_data_size")
        if size is None:
            if "shared_memory_region" in parameters:
                raise refuse(f"input '{name}': shared memory is not served; send the data")
            return Tensor(name, datatype, shape, from_json(name, datatype, shape, one.get("data"))), 0
        if type(size) is not int or size < 0 or "data" in one:
            raise refuse(f"input '{name}': binary_data_size must be a size in bytes, and 'data' must be absent")
        if size > len(binary):
            missing = size - len(binary)
            raise refuse(
                f"unexpected size for input '{name}', expecting {missing} additional bytes for model '{self._model}'"
            )
        return Tensor(name, datatype, shape, from_binary(name, datatype, shape, binary[:size])), size

    def _wanted(self, content: Mapping[str, Any]) -> Wanted:
        identifier = content.get("id")
        if identifier is not None and not isinstance(identifier, str):
            raise refuse("'id' must be a string")
        parameters = _parameters(content, "the request")
        for name in parameters:
            if name.startswith("triton_"):
                raise refuse(f"parameter keys starting with 'triton_' are reserved: '{name:.80}'")
        all_binary = parameters.get("binary_data_output", False) is True
        asked = content.get("outputs")
        if asked is None or asked == []:
            return Wanted(identifier, [(name, all_binary) for name in self._outputs])
        if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
            raise refuse("Unable to parse 'outputs': it must be a list of objects")
        return Wanted(identifier, [self._output(one, all_binary=all_binary) for one in asked])

    def _output(self, one: Mapping[str, Any], *, all_binary: bool) -> tuple[str, bool]:
        name = one.get("name")
        if name not in self._outputs:
            raise refuse(f"unexpected inference output {name!r:.80} for model '{self._model}'")
        parameters = _parameters(one, f"output '{name}'")
        if "shared_memory_region" in parameters or parameters.get("classification"):
            raise refuse(f"output '{name}': shared memory and classification are not served")
        return str(name), parameters.get("binary_data", all_binary) is True

    def _arrays(self, tensors: Sequence[Tensor]) -> tuple[Arrays, int]:
        given: dict[str, Tensor] = {}
        for tensor in tensors:
            if tensor.name in given:
                raise refuse(f"input '{tensor.name}' is given twice")
            given[tensor.name] = tensor
        if self._takes_matrix and list(given) == [MATRIX]:
            return self._matrix(given[MATRIX])
        self._check_names(given)
        rows = given[self._names[0]].shape[0]
        columns = [self._column(feature, given[feature.name], rows) for feature in self._signature.inputs]
        return split(self._signature, np.stack(columns, axis=1)), rows

    def _matrix(self, tensor: Tensor) -> tuple[Arrays, int]:
        if tensor.datatype in ("BYTES", "BOOL"):
            raise self._wrong_type(tensor, "FP64")
        if len(tensor.shape) != 2 or tensor.shape[1] != len(self._names):
            expected, got = f"[-1,{len(self._names)}]", str(list(tensor.shape)).replace(" ", "")
            raise refuse(
                f"unexpected shape for input '{MATRIX}' for model '{self._model}'. Expected {expected}, got {got}"
            )
        numbers = np.asarray(_missing_as_nan(tensor.elements), np.float64).reshape(tensor.shape)
        self._check_numbers(numbers)
        return Arrays(numbers, None), len(numbers)

    def _check_numbers(self, numbers: np.ndarray) -> None:
        """Refuse what is not finite, but for NaN where a missing value is taken."""
        if np.isfinite(numbers).all():
            return
        for feature, column in zip(self._signature.inputs, numbers.T, strict=True):
            _encoded(feature, np.ascontiguousarray(column))

    def _column(self, feature: Feature, tensor: Tensor, rows: int) -> np.ndarray:
        if tensor.shape not in ((rows,), (rows, 1)):
            raise refuse(
                f"unexpected shape for input '{tensor.name}' for model '{self._model}'. Expected [{rows},1], "
                f"got {str(list(tensor.shape)).replace(' ', '')}"
            )
        if (tensor.datatype == "BYTES") != (datatype_of(feature) == "BYTES"):
            raise self._wrong_type(tensor, datatype_of(feature))
        elements = tensor.elements
        if tensor.datatype == "BYTES" and "" not in (feature.categories or ()):
            elements = [element or None for element in elements]
        return _encoded(feature, elements)

    def _check_names(self, given: Mapping[str, Tensor]) -> None:
        for name in given:
            if name not in self._names:
                near = errors.nearest(name, self._names)
                raise refuse(f"unexpected inference input '{name:.200}' for model '{self._model}'.{near}")
        missing = [name for name in self._names if name not in given]
        if missing:
            raise refuse(
                f"expected {len(self._names)} inputs but got {len(given)} inputs for model '{self._model}'. "
                f"Missing required input(s) {missing[:10]}"
            )

    def _wrong_type(self, tensor: Tensor, expected: str) -> ServiceError:
        return refuse(
            f"inference input data-type is '{tensor.datatype}', model expects '{expected}' for '{tensor.name}'"
        )


def takes_matrix(manifest: Manifest) -> bool:
    """Return whether rows may come as one matrix: every feature is numeric, and none is itself named like it."""
    inputs = manifest.signature.inputs
    return all(feature.kind == "numeric" for feature in inputs) and all(feature.name != MATRIX for feature in inputs)


def datatype_of(feature: Feature) -> str:
    """Return the datatype that metadata gives for a feature's own tensor; other numeric ones are taken too."""
    if feature.kind == "numeric":
        return "BOOL" if feature.value_type == "boolean" and not feature.missing else "FP64"
    return {"integer": "INT64", "boolean": "BOOL"}.get(feature.value_type, "BYTES")


def header_length(value: bytes | None, body_bytes: int) -> int:
    """Return how many bytes of the body are JSON; 0 means raw binary data. Raises 400."""
    if value is None:
        return body_bytes or -1
    text = value.decode("latin-1").strip()
    if not (text.lstrip("-").isdecimal() and text.isascii()):
        raise refuse(f"Unable to parse Inference-Header-Content-Length, got: {text:.40}")
    length = int(text[:20])
    if not 0 <= length <= body_bytes:
        raise refuse(f"inference header size should be in range (0, {body_bytes}), got: {text:.40}")
    return length


def _content(raw: bytes) -> dict[str, Any]:
    """Return the parsed JSON; NaN and Infinity tokens, which clients of this protocol write, are read too."""
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError):
            raise errors.broken_json(raw, error) from error
    if not isinstance(content, dict):
        raise refuse("the request must be a JSON object with 'inputs'")
    return content


def _parameters(content: Mapping[str, Any], of: str) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise refuse(f"Unable to parse 'parameters' of {of}: it must be an object")
    return parameters


def _missing_as_nan(elements: Elements) -> Elements:
    if isinstance(elements, np.ndarray):
        return elements
    return [np.nan if element is None else element for element in elements]


def _encoded(feature: Feature, elements: Elements) -> np.ndarray:
    try:
        return encode_column(feature, elements)
    except FeatureError as error:
        raise refuse(str(error)) from error
