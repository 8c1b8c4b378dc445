"""Infer messages as bytes: the codec of gRPC, which a process of its own may have too."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from batchproof.service.bundle.graph.protobuf import LENGTH, Budget, fields
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.interface import Answer, Call, Decoded
from batchproof.service.server.grpc.messages import classes
from batchproof.service.server.grpc.tensors import Asked, Tensors

NAME, VERSION = 1, 2  # fields of ModelInferRequest


class MessageCodec:
    """One model's infer messages and answers."""

    note_type = Asked

    def __init__(self, manifest: Manifest, max_rows: int, messages: Mapping[str, Any] | None = None) -> None:
        """Read and write with the classes of `messages`, by default of its own."""
        self._messages = classes() if messages is None else messages
        self._tensors = Tensors(manifest, self._messages, max_rows)

    def decode(self, call: Call) -> Decoded:
        """Return a message's rows; raises ServiceError."""
        return self.read(parsed(self._messages, "ModelInfer", call.body))

    def read(self, message: Any) -> Decoded:
        """Return the rows of a message that is parsed; raises ServiceError."""
        arrays, rows, asked = self._tensors.read(message)
        return Decoded(arrays, rows, asked)

    def encode(self, _: Call, decoded: Decoded, outputs: Mapping[str, np.ndarray]) -> Answer:
        """Return the answer as bytes."""
        return Answer(200, (), self._tensors.write(decoded.note, outputs).SerializeToString())


def parsed(messages: Mapping[str, Any], method: str, request: bytes) -> Any:
    """Return a call's message, which grpc would refuse as a failure of the server; raises ServiceError (400)."""
    try:
        return messages[f"{method}Request"].FromString(request)
    except DecodeError as error:
        raise _broken(method) from error


def model_of(request: bytes) -> tuple[str, str]:
    """Return the model and the version that an infer message names, without reading the rest; raises ServiceError (400)."""
    found = {NAME: memoryview(b""), VERSION: memoryview(b"")}
    budget = Budget()
    try:
        for number, wire, value in fields(memoryview(request)):
            budget.spend()
            if number in found and wire == LENGTH and isinstance(value, memoryview):
                found[number] = value  # of two, the last one counts
        return str(found[NAME], "utf-8"), str(found[VERSION], "utf-8")
    except ValueError as error:
        raise _broken("ModelInfer") from error


def _broken(method: str) -> ServiceError:
    return ServiceError(400, "invalid_request", f"The message is not a {method}Request, or is cut off.")
