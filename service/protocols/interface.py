"""The interface between a wire protocol and the rest of the service. Read this to add a protocol.

A protocol says three things about its predict routes and nothing about queues, deadlines or sockets:

1. `paths(model, is_default, is_newest)`, `label_paths(model, label)`: the exact paths at which it answers for one model.
   They become keys of one route table; the app looks a POST up there before any router or middleware runs.
2. `codec(model)`: an object made once per model, holding whatever can be prebuilt (keys, model object, lookups):
   - `decode(call) -> Decoded`: bytes and headers to the model's Arrays. Every fault is a `ServiceError`; a row is fully
     validated here, because behind it rows of several callers share a run.
   - `encode(call, decoded, outputs) -> Answer`: the rows' own outputs to the answer.
   A codec may have `decode_good(call) -> Decoded | None` too: a fast reading of rows that are all good, None for others.
   And `decode_raw(call) -> Decoded | None`: of rows that are numbers as bytes, which are quick to read however many they are.
   `Decoded.note` carries what `encode` must know of the request (which rows were bad, which outputs were asked for).
   What is large is decoded and encoded in another process (service/server/serving/codecs), so a note is a tuple of plain
   values, of the codec's `note_type` (by default None), and `needs_inputs(decoded) -> bool` (by default False) says
   whether `encode` reads `decoded.arrays`. `encode` does not see the body again. What costs much more than its bytes
   say raises HeavyRequestError where `call.is_on_loop`: it is decoded again, in another process.
3. `failure(error, request_id) -> Answer`: a refusal in the protocol's own shape. It is used for every failure of a
   predict route: decoding, 413, 429, 503, 504, a failed engine, a wrong method, an unknown model.

Admission, batching, deadline, request id, cancellation, body limit, rules about callers, metrics and logs are the same
for all protocols: see service/server/serving/gate.py and service/server/serving/endpoint.py. What else a protocol
serves (metadata, health, ready), it answers in `page(site, method, path)`, called for paths that it `claims`; None
there means 404 (or 405) in the protocol's shape. To serve a new protocol, add it to PROTOCOLS in
service/server/serving/app.py, to DESCRIBED in service/server/openapi/document.py, and to `warm_up` in
service/server/serving/codecs/codec_process.py.

`paths` are relative to the root; percent-decoded. service/server/openapi/document.py describes them for OpenAPI.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.catalogue.registry import Registry
from batchproof.service.inference.model import Described, Model
from batchproof.service.runtime.metrics import ModelCounts, ModelKey

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case
MODEL_PATH = re.compile(r"((?:/v[12])?/models/)([^/:]+)(?=[/:]|$)")  # in every protocol whose paths name models

JSON = (b"content-type", b"application/json")
JSON_ONLY = (JSON,)  # the headers of most answers: one object, whose text a connection keeps


class Call:
    """One predict request as a protocol sees it."""

    __slots__ = ("body", "headers", "is_on_loop", "request_id")

    def __init__(self, body: bytes, headers: Headers, request_id: str, *, is_on_loop: bool = False) -> None:
        """Hold the whole body, and the headers with their names in lower case; `is_on_loop`: other callers wait meanwhile."""
        self.body = body
        self.headers = headers
        self.request_id = request_id
        self.is_on_loop = is_on_loop


class HeavyRequestError(Exception):
    """A short request that takes long to decode."""


class Decoded(NamedTuple):
    """A request's good rows, how many they are, and what `encode` must remember about it."""

    arrays: Arrays
    rows: int  # that run
    note: Any = None
    added: int = 0  # of these rows, those that the caller did not send and does not see
    places: Sequence[int] | None = None  # of the caller's rows in its request, where some of it are refused


class Answer(NamedTuple):
    """A response; content-length is added where it is written."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Codec(Protocol):
    """One model in one protocol."""

    def decode(self, call: Call) -> Decoded:
        """Return the request's rows as arrays; raises ServiceError."""
        ...

    def encode(self, call: Call, decoded: Decoded, outputs: Mapping[str, np.ndarray]) -> Answer:
        """Return the answer for the rows' own outputs, each [rows, width]."""
        ...


@dataclass(frozen=True)
class Limits:
    """Bounds that a codec applies to one request."""

    max_rows: int = 100_000
    error_limit: int = 20  # how many faults one refusal lists
    max_body_bytes: int = 64 << 20  # of a body once it is unpacked


@dataclass(frozen=True)
class ServerInfo:
    """What a protocol's own pages may show."""

    registry: Registry
    default: str | None  # the name that plain /predict answers for
    is_ready: bool
    counts: Callable[[], Mapping[ModelKey, ModelCounts]]  # over all workers

    def only(self, is_visible: Callable[[str], bool]) -> "ServerInfo":
        """Return the same with those models alone whose name is visible."""
        if all(map(is_visible, self.registry.names)):
            return self
        default = self.default if self.default is not None and is_visible(self.default) else None
        return replace(self, registry=self.registry.only(is_visible), default=default)


class WireProtocol(Protocol):
    """One wire format."""

    name: str  # lower case; a label in metrics
    probe_path: str  # a health path, which may be a predict path too: GET is a probe there; empty for none

    def paths(self, model: Model, *, is_default: bool, is_newest: bool) -> Sequence[str]:
        """Return the POST paths that answer for `model`."""
        ...

    def label_paths(self, model: Model, label: str) -> Sequence[str]:
        """Return the POST paths that answer for the version of `model` that `label` stands for; none for no such paths."""
        ...

    def codec(self, model: Described, limits: Limits, label: str = "") -> Codec:
        """Return the codec of `model`, made once; its answers name the `label` that the version was asked for by."""
        ...

    def claims(self, path: str) -> bool:
        """Return whether a path that is not a predict route belongs to this protocol, whose shape a refusal then has."""
        ...

    def page(self, site: ServerInfo, method: str, path: str) -> Answer | None:
        """Answer a claimed path that is not a predict route; None where there is nothing."""
        ...

    def failure(self, error: ServiceError, request_id: str) -> Answer:
        """Return a refusal in this protocol's shape."""
        ...


def renamed(path: str, new_name: Callable[[str], str]) -> str:
    """Return the path with `new_name(NAME)` in place of the model's name; a path that names none stays as it is."""
    match = MODEL_PATH.match(path)
    return path if match is None else f"{match[1]}{new_name(match[2])}{path[match.end() :]}"
