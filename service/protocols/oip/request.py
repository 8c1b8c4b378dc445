"""An infer request of the Open Inference Protocol: JSON, binary tensors, and both mixed.

bytes -> JSON part and binary part -> tensors -> the model's arrays (service/protocols/oip/inputs.py).

Source: the protocol's REST specification and its binary data extension; the sentences are the ones that clients of
Triton know.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from batchproof.service import errors
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.features.arrays import Arrays
from batchproof.service.protocols.compression import header
from batchproof.service.protocols.interface import Call, Decoded, Limits
from batchproof.service.protocols.json_text.json_body import check_keys, check_size, loads_with_nan, without_bom
from batchproof.service.protocols.oip.fast_matrix import FIELDS, FastMatrix
from batchproof.service.protocols.oip.inputs import MATRIX, Inputs
from batchproof.service.protocols.oip.tensors import (
    Tensor,
    checked_datatype,
    checked_shape,
    from_binary,
    from_json,
    refuse,
)
from batchproof.service.protocols.oip.texts import decoded_texts, missing_text_of

LENGTH = b"inference-header-content-length"
RAW_JSON_BYTES = 1 << 16  # before numbers as bytes: parsed within a few milliseconds, whatever is in it
LOOP_JSON_BYTES = 1 << 13  # the same on the event loop, as for any small body
LENGTH_DIGITS = re.compile(rb"-?[0-9]{1,18}")


class Wanted(NamedTuple):
    """What the answer must hold: the request's id, and each output's name with whether it is written as binary."""

    id: str | None
    outputs: Sequence[tuple[str, bool]]


class RequestReader:
    """One model's infer requests."""

    def __init__(self, manifest: Manifest, outputs: Sequence[str], limits: Limits) -> None:
        """Prepare the names that a request may use."""
        self._model = manifest.name
        self._inputs = Inputs(manifest)
        is_plain = self._inputs.takes_matrix and not self._inputs.has_booleans
        self._fast = FastMatrix(len(self._inputs.names)) if is_plain else None
        self._outputs = tuple(outputs)
        self._default = Wanted(None, [(name, False) for name in outputs])
        self._limits = limits

    def read(self, call: Call) -> Decoded:
        """Return the rows and what was asked for; raises 400 or 422."""
        body, stated = call.body, header(call.headers, LENGTH)
        good = self.read_good(call)
        if good is not None:
            return good
        length = len(body) if stated is None else header_length(stated, len(body))
        if length == 0 and stated is not None:
            return self._raw(body)
        return self._framed(body, length, self._content(body[:length]))

    def read_raw(self, call: Call) -> Decoded | None:
        """Return rows whose tensors are numbers as bytes, behind little JSON; None for any other body. Raises 400 or 422.

        However many they are, NumPy reads them, and without the interpreter's lock.
        """
        stated = header(call.headers, LENGTH)
        length = 0 if stated is None else header_length(stated, len(call.body))
        if not 0 < length <= (LOOP_JSON_BYTES if call.is_on_loop else RAW_JSON_BYTES):
            return None
        content = self._content(call.body[:length])
        inputs = content.get("inputs")
        if not isinstance(inputs, list) or any(
            isinstance(each, dict) and each.get("datatype") == "BYTES" for each in inputs
        ):
            return None
        return self._framed(call.body, length, content)

    def _content(self, text: bytes) -> dict[str, Any]:
        check_size(text, self._limits.max_rows, len(self._inputs.names))
        content = content_of(text)
        check_keys(text, keys_of(content))
        return content

    def _framed(self, body: bytes, length: int, content: Mapping[str, Any]) -> Decoded:
        """Return the rows of a body whose first `length` bytes are `content`."""
        missing_text = missing_text_of(_parameters(content, "the request"))
        arrays, rows = self._inputs.arrays(self._tensors(content, memoryview(body)[length:]), missing_text)
        return self._decoded(arrays, rows, self._wanted(content))

    def read_good(self, call: Call) -> Decoded | None:
        """Return good rows that came as the JSON matrix, None for any other body. Raises 400 for too many."""
        if self._fast is None or header(call.headers, LENGTH) is not None:
            return None
        matrix = self._fast.read(call.body)
        if matrix is None:
            return None
        numbers, other_keys = matrix
        wanted = self._of_other_keys(call.body, other_keys) if other_keys else self._default
        return self._decoded(Arrays(numbers, None), len(numbers), wanted)

    def _of_other_keys(self, body: bytes, other_keys: Mapping[str, Any]) -> Wanted:
        """Return what a request that was read fast wants; only `other_keys` are still to be checked."""
        check_keys(body, 1 + FIELDS + keys_of(other_keys))
        return self._wanted(other_keys)

    def _decoded(self, arrays: Arrays, rows: int, wanted: Wanted) -> Decoded:
        self._check_rows(rows)
        return Decoded(arrays, rows, wanted)

    def _check_rows(self, rows: int) -> None:
        if rows > self._limits.max_rows:
            raise refuse(f"the request has {rows} rows; at most {self._limits.max_rows} are accepted")

    def _raw(self, body: bytes) -> Decoded:
        """Read the body as the bytes of one row of the matrix; every output is written as binary."""
        width = len(self._inputs.names)
        if not self._inputs.takes_matrix:
            raise refuse(f"raw binary data needs a model with one input; '{self._model}' has {width}")
        elements = from_binary(MATRIX, "FP64", (1, width), memoryview(body))
        arrays, rows = self._inputs.arrays({MATRIX: Tensor(MATRIX, "FP64", (1, width), elements)})
        return self._decoded(arrays, rows, Wanted(None, [(name, True) for name in self._outputs]))

    def _tensors(self, content: Mapping[str, Any], binary: memoryview) -> dict[str, Tensor]:
        inputs = content.get("inputs")
        if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
            raise refuse("Unable to parse 'inputs': it must be a list of objects")
        given: dict[str, Tensor] = {}
        at = 0
        for tensor in inputs:
            name = self._inputs.check_name(tensor.get("name"), given)
            given[name], size = self._tensor(name, tensor, binary[at:])
            at += size
        if at != len(binary):
            raise refuse(
                f"unexpected additional input data for model '{self._model}': {len(binary) - at} bytes are left"
            )
        return given

    def _tensor(self, name: str, described: Mapping[str, Any], binary: memoryview) -> tuple[Tensor, int]:
        shape = checked_shape(name, described.get("shape"))
        self._check_rows(shape[0])
        datatype = checked_datatype(name, described.get("datatype"))
        parameters = _parameters(described, f"input '{name}'")
        size = parameters.get("binary_data_size")
        if size is None:
            if "shared_memory_region" in parameters:
                raise refuse(f"input '{name}': shared memory is not served; send the data")
            elements = from_json(name, datatype, shape, described.get("data"))
            return decoded_texts(Tensor(name, datatype, shape, elements, has_null=True), parameters), 0
        if type(size) is not int or size < 0 or "data" in described:
            raise refuse(f"input '{name}': binary_data_size must be a size in bytes, and 'data' must be absent")
        if size > len(binary):
            missing = size - len(binary)
            raise refuse(
                f"unexpected size for input '{name}', expecting {missing} additional bytes for model '{self._model}'"
            )
        elements = from_binary(name, datatype, shape, binary[:size])
        return decoded_texts(Tensor(name, datatype, shape, elements), parameters), size

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
        if not isinstance(asked, list) or not all(isinstance(output, dict) for output in asked):
            raise refuse("Unable to parse 'outputs': it must be a list of objects")
        wanted: dict[str, bool] = {}
        for output in asked:
            name, is_binary = self._output(output, all_binary=all_binary)
            if name in wanted:
                raise refuse(f"output '{name}' is asked for twice")
            wanted[name] = is_binary
        return Wanted(identifier, list(wanted.items()))

    def _output(self, output: Mapping[str, Any], *, all_binary: bool) -> tuple[str, bool]:
        name = output.get("name")
        if name not in self._outputs:
            raise refuse(f"unexpected inference output {name!r:.80} for model '{self._model}'")
        parameters = _parameters(output, f"output '{name}'")
        if "shared_memory_region" in parameters or parameters.get("classification"):
            raise refuse(f"output '{name}': shared memory and classification are not served")
        return str(name), parameters.get("binary_data", all_binary) is True


def header_length(value: bytes, body_bytes: int) -> int:
    """Return how many bytes of the body are JSON; 0 means raw binary data. Raises 400."""
    text = value.strip()
    if not LENGTH_DIGITS.fullmatch(text):
        raise refuse(f"Unable to parse Inference-Header-Content-Length, got: {text.decode('latin-1'):.40}")
    length = int(text)
    if not 0 <= length <= body_bytes:
        raise refuse(f"inference header size should be in range (0, {body_bytes}), got: {length}")
    return length


def content_of(raw: bytes) -> dict[str, Any]:
    """Return the parsed JSON; NaN and Infinity tokens, which clients of this protocol write, are read too."""
    plain = without_bom(raw)
    try:
        content = loads_with_nan(plain, math.nan)
    except json.JSONDecodeError as error:
        raise errors.broken_json(plain, error) from error
    if not isinstance(content, dict):
        raise refuse("the request must be a JSON object with 'inputs'")
    return content


def keys_of(content: Mapping[str, Any]) -> int:
    """Return how many keys a request's objects have, where they are the protocol's."""
    inputs, outputs = (content.get(name) for name in ("inputs", "outputs"))
    listed = [
        described
        for many in (inputs, outputs)
        if isinstance(many, list)
        for described in many
        if isinstance(described, dict)
    ]
    keys = len(content)
    for described in [content, *listed]:
        parameters = described.get("parameters")
        keys += len(parameters) if isinstance(parameters, dict) else 0
    return keys + sum(map(len, listed))


def _parameters(content: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise refuse(f"Unable to parse 'parameters' of {part}: it must be an object")
    return parameters
