"""Tensors of gRPC messages to the model's arrays, and outputs to messages: raw bytes, or typed contents."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.decoder import labels_of
from batchproof.service.protocols.oip.inputs import Inputs
from batchproof.service.protocols.oip.protocol import output_names
from batchproof.service.protocols.oip.tensors import (
    DTYPES,
    Elements,
    Tensor,
    checked_datatype,
    checked_shape,
    from_binary,
    refuse,
    to_binary,
)
from batchproof.service.protocols.oip.texts import decoded_texts, missing_text_of

CONTENTS = {  # datatype -> the field of InferTensorContents that holds it; FP16 and BF16 go as raw bytes alone
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
NOT_SERVED = ("shared_memory_region", "classification")


QUICK = ("FP32", "FP64")  # datatypes whose elements numpy reads at once


class Asked(NamedTuple):
    """What the answer must hold: the request's id, whether outputs are raw bytes, and their names."""

    id: str
    is_raw: bool
    outputs: Sequence[str]


class Tensors:
    """One model's infer messages."""

    def __init__(self, manifest: Manifest, messages: Mapping[str, Any], max_rows: int) -> None:
        """Prepare names and labels."""
        self._manifest = manifest
        self._messages = messages
        self._max_rows = max_rows
        self._inputs = Inputs(manifest)
        self._outputs = output_names(manifest)
        self._label_datatype, self._labels = labels_of(manifest.signature.classes or ())

    def read(self, request: Any) -> tuple[Arrays, int, Asked]:
        """Return the arrays, how many rows they hold, and what was asked for; raises 400."""
        raw = request.raw_input_contents
        if raw and len(raw) != len(request.inputs):
            raise refuse(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs: there must be one for each")
        given: dict[str, Tensor] = {}
        for place, described in enumerate(request.inputs):
            name = self._inputs.check_name(described.name, given)
            given[name] = _tensor(described, raw[place] if raw else None)
        arrays, rows = self._inputs.arrays(given, missing_text_of(_parameters(request)))
        if rows > self._max_rows:
            raise refuse(f"the request has {rows} rows; at most {self._max_rows} are accepted")
        wanted = [self._wanted(output) for output in request.outputs] or self._outputs
        return arrays, rows, Asked(request.id, bool(raw), wanted)

    def write(self, asked: Asked, outputs: Mapping[str, np.ndarray]) -> Any:
        """Return the answer: raw where the request was raw, typed contents otherwise."""
        manifest = self._manifest
        answer = self._messages["ModelInferResponse"](
            model_name=manifest.name, model_version=str(manifest.version), id=asked.id
        )
        for name in asked.outputs:
            datatype, elements, shape = self._output(name, outputs)
            output = answer.outputs.add(name=name, datatype=datatype, shape=shape)
            if asked.is_raw:
                answer.raw_output_contents.append(to_binary(elements))
            else:
                getattr(output.contents, CONTENTS[datatype]).extend(_listed(elements))
        return answer

    def _wanted(self, output: Any) -> str:
        if output.name not in self._outputs:
            raise refuse(f"unexpected inference output '{output.name:.80}' for model '{self._manifest.name}'")
        _check_parameters(output, f"output '{output.name}'")
        return str(output.name)

    def _output(
        self, name: str, outputs: Mapping[str, np.ndarray]
    ) -> tuple[str, np.ndarray | list[str], Sequence[int]]:
        if name != "label":
            return "FP32", outputs[name], outputs[name].shape
        winners = self._manifest.label_places(outputs["probabilities"])
        shape = (len(winners), 1)
        if self._label_datatype == "BYTES":
            return "BYTES", [str(self._labels[winner]) for winner in winners.tolist()], shape
        dtype = np.bool_ if self._label_datatype == "BOOL" else np.int64
        return self._label_datatype, np.array(self._labels, dtype)[winners], shape


def is_quick(request: Any) -> bool:
    """Return whether a message is read in little time for each of its bytes: floating-point numbers as raw bytes."""
    return bool(request.raw_input_contents) and all(described.datatype in QUICK for described in request.inputs)


def _tensor(described: Any, raw: bytes | None) -> Tensor:
    _check_parameters(described, f"input '{described.name}'")
    shape = checked_shape(described.name, list(described.shape))
    datatype = checked_datatype(described.name, described.datatype)
    if raw is not None:
        elements = from_binary(described.name, datatype, shape, memoryview(raw))
    else:
        elements = _from_contents(described, datatype, shape)
    return decoded_texts(Tensor(described.name, datatype, shape, elements), _parameters(described))


def _from_contents(described: Any, datatype: str, shape: tuple[int, ...]) -> Elements:
    field = CONTENTS.get(datatype)
    if field is None:
        raise refuse(f"input '{described.name}': {datatype} is read from raw_input_contents only")
    values = getattr(described.contents, field)
    if len(values) != prod(shape):
        raise refuse(
            f"input '{described.name}' holds {len(values)} elements in {field}, but shape {list(shape)} needs {prod(shape)} elements"
        )
    if datatype == "BYTES":
        return [_text(described.name, value) for value in values]
    try:
        return np.array(values, DTYPES[datatype])
    except OverflowError as error:
        raise refuse(f"input '{described.name}': an element is beyond {datatype}") from error


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise refuse(f"input '{name}': a BYTES element is not UTF-8 text") from error


def _parameters(message: Any) -> dict[str, Any]:
    """Return the parameters of a request or a tensor as plain values; one without a value is left out."""
    values = {}
    for parameter in message.parameters:
        given = parameter.value.ListFields()
        if given:
            values[parameter.key] = given[0][1]
    return values


def _check_parameters(message: Any, part: str) -> None:
    for parameter in message.parameters:
        if parameter.key in NOT_SERVED:
            raise ServiceError(
                501,
                "not_served",
                f"{part}: {parameter.key} is not supported; send and receive the data in the messages",
            )


def _listed(elements: np.ndarray | list[str]) -> list[Any]:
    if isinstance(elements, np.ndarray):
        values: list[Any] = elements.ravel().tolist()
        return values
    return [text.encode() for text in elements]
