"""The native protocol: {"rows": [...]} to {"predictions": [...], "model": {...}, "request_id": "..."}."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from batchproof.service import errors
from batchproof.service.bundle.signature import Signature
from batchproof.service.errors import ServiceError
from batchproof.service.features import examples as samples
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import Encoder, Problem
from batchproof.service.inference.catalogue.registry import absent
from batchproof.service.inference.model import Described, Model
from batchproof.service.protocols.compression import header
from batchproof.service.protocols.interface import (
    JSON,
    JSON_ONLY,
    Answer,
    Call,
    Codec,
    Decoded,
    HeavyRequestError,
    Limits,
    ServerInfo,
)
from batchproof.service.protocols.json_text.fast_rows import FastRows
from batchproof.service.protocols.json_text.json_body import (
    _details,
    _sentence,
    check_distinct,
    check_size,
    invalid_rows,
    parse,
    too_many_rows,
)
from batchproof.service.protocols.json_text.prediction_text import PredictionText
from batchproof.service.protocols.options import Options, OptionWriter
from batchproof.service.runtime.json_bytes import compact

# JSON, and what HTTP libraries send when the caller names no type.
AS_JSON = frozenset({"application/json", "text/json", "text/plain", "application/octet-stream", "*/*"}) | {
    "application/x-www-form-urlencoded"
}
FIELDS = ("rows", "columns", "on_error", "coverage", "explain", "detail")


class ResponsePlan(NamedTuple):
    """What the answer to an unusual request needs: which rows ran, what was wrong, which options were asked for."""

    rows: int  # that were sent
    kept: Sequence[int]
    problems: Sequence[Problem]
    asked: Options


class Native:
    """POST /predict and its forms with a model's name and version."""

    name = "native"
    probe_path = ""

    def paths(self, model: Model, *, is_default: bool, is_newest: bool) -> list[str]:
        """Return the paths of one model."""
        name, version = model.manifest.name, model.manifest.version
        plain = ["/predict"] if is_newest and is_default else []
        newest = [f"/models/{name}/predict"] if is_newest else []
        return [*plain, *newest, f"/models/{name}/versions/{version}/predict"]

    def label_paths(self, model: Model, label: str) -> list[str]:
        """Return the path of one label."""
        return [f"/models/{model.manifest.name}/labels/{label}/predict"]

    def codec(self, model: Described, limits: Limits, label: str = "") -> Codec:
        """Return the codec of one model."""
        return NativeCodec(model, limits, label)

    def claims(self, path: str) -> bool:
        """Refuse predict paths of models that are not there."""
        return path == "/predict" or (path.startswith("/models/") and path.endswith("/predict"))

    def page(self, site: ServerInfo, method: str, path: str) -> Answer | None:
        """Say why a predict path does not answer."""
        parts = path.strip("/").split("/")
        names = site.registry.names
        if path == "/predict" and len(names) != 1:
            which = f"name one: /models/{{name}}/predict with {', '.join(names)}" if names else "no model is loaded"
            raise ServiceError(404, "no_default_model", f"There is no default model; {which}.")
        name = names[0] if path == "/predict" else parts[1]
        version = parts[3] if len(parts) == 5 and parts[3].isascii() and parts[3].isdecimal() else "0"
        raise absent(site.registry, name, int(version[:18]) if len(parts) == 5 else None)

    def failure(self, error: ServiceError, request_id: str) -> Answer:
        """Return the one error shape of the native routes."""
        return Answer(error.status, [JSON, *error.headers], error.as_json(request_id))


class NativeCodec:
    """One model's native requests and answers."""

    note_type = ResponsePlan | None

    def __init__(self, model: Described, limits: Limits, label: str = "") -> None:
        """Prebuild decoders and the constant parts of an answer."""
        self._encoder: Encoder = model.encoder
        self._limits = limits
        self._fast = FastRows(model.manifest.signature)
        self._text = PredictionText(model.manifest)
        self._extras = OptionWriter(model.manifest)
        described = {
            "name": model.manifest.name,
            "version": model.manifest.version,
            **({"label": label} if label else {}),
            "fingerprint": model.fingerprint,
        }
        self._middle = b'],"model":' + orjson.dumps(described) + b',"request_id":"'

    def decode(self, call: Call) -> Decoded:
        """Read the body; raises 400 for broken JSON and 422 for anything else that is wrong."""
        decoded = self.decode_good(call)
        if decoded is None:
            check_type(call)
            return self._precise(call)
        return decoded

    def decode_good(self, call: Call) -> Decoded | None:
        """Read a body of good rows in the usual form; None for any other. Raises 422 for too many rows."""
        arrays = self._fast.decode(call.body)
        if arrays is None:
            return None
        rows = len(arrays[0] if arrays[0] is not None else arrays[1])  # type: ignore[arg-type]
        if rows > self._limits.max_rows:
            raise too_many_rows(rows, self._limits.max_rows)
        return Decoded(arrays, rows)

    def encode(self, call: Call, decoded: Decoded, outputs: Mapping[str, np.ndarray]) -> Answer:
        """Join prebuilt bytes around the predictions."""
        note = decoded.note
        text = self._text.write(outputs) if note is None else self._unusual(note, decoded.arrays, outputs)
        parts = (b'{"predictions":[', text, self._middle, call.request_id.encode(), b'"}')
        return Answer(200, JSON_ONLY, b"".join(parts))

    @staticmethod
    def needs_inputs(decoded: Decoded) -> bool:
        """Return whether an answer says something of the rows' values."""
        return decoded.note is not None and (decoded.note.asked.detail or decoded.note.asked.explain)

    def _precise(self, call: Call) -> Decoded:
        """Read what the fast reader did not take: a fault, the unusual."""
        body = call.body
        check_size(body, self._limits.max_rows, len(self._encoder.names))
        content = parse(body)
        rows, columns, on_error = fields(content, self._encoder.signature)
        if len(rows) > self._limits.max_rows:
            raise too_many_rows(len(rows), self._limits.max_rows)
        check_distinct(body, content)
        asked = self._extras.asked(content)
        encoded = self._encoder.encode_rows(rows, columns, None if on_error == "row" else self._limits.error_limit)
        if encoded.errors and (on_error != "row" or any(problem.row is None for problem in encoded.errors)):
            raise invalid_rows(encoded)
        if call.is_on_loop and self._extras.is_heavy(asked, len(encoded.kept)):
            raise HeavyRequestError
        arrays, run_rows = self._extras.expand(asked, encoded.arrays, len(encoded.kept), self._limits.max_rows)
        if not encoded.errors and asked == Options():
            return Decoded(arrays, run_rows)
        note = ResponsePlan(len(rows), encoded.kept, encoded.errors, asked)
        return Decoded(arrays, run_rows, note, run_rows - len(encoded.kept), encoded.kept)

    def _unusual(self, note: ResponsePlan, arrays: Arrays, outputs: Mapping[str, np.ndarray]) -> bytes:
        """Put each bad row's error in its place among the predictions, and what was asked for into the others."""
        own = {name: values[: len(note.kept)] for name, values in outputs.items()}
        good = self._extras.write(note.asked, arrays, outputs, self._text.each(own) if note.kept else ())
        texts: list[bytes] = [b""] * note.rows
        for row, text in zip(note.kept, good, strict=True):
            texts[row] = text
        faults: dict[int, list[Problem]] = {}
        for problem in note.problems:
            faults.setdefault(problem.row or 0, []).append(problem)
        for row, problems in faults.items():
            error = {"code": "invalid_row", "message": _sentence(problems), "details": _details(problems)}
            texts[row] = compact({"error": error})
        return b",".join(texts)


def check_type(call: Call) -> None:
    """Refuse, with 415, a body that says it is something that no predict route reads as JSON."""
    stated = (header(call.headers, b"content-type") or b"").decode("latin-1").partition(";")[0].strip().lower()
    if stated and stated not in AS_JSON and not stated.endswith("+json"):
        raise ServiceError(
            415,
            "unsupported_type",
            f"Content-Type {stated!r:.60} is not supported; use application/json or the type of a table.",
        )


def fields(content: Any, signature: Signature) -> tuple[list[Any], list[Any] | None, str]:
    """Return rows, columns and on_error of a request; raises 422, with an example where there are no rows."""
    if not isinstance(content, dict):
        raise ServiceError(422, "invalid_request", f"The body must be an object such as {samples.brief(signature)}.")
    rows, columns, on_error = content.get("rows"), content.get("columns"), content.get("on_error", "stop")
    example = "" if "rows" in content else f" Example: {samples.brief(signature)}."
    for name in content:
        if name not in FIELDS:
            near = errors.nearest(name, FIELDS) + example
            known = ", ".join(FIELDS)
            raise ServiceError(
                422, "invalid_request", f"Unknown field {errors.short(name)!r}; known are {known}.{near}"
            )
    if not isinstance(rows, list):
        raise ServiceError(422, "invalid_request", f"rows must be a list of rows.{example}")
    if "columns" in content and not isinstance(columns, list):
        raise ServiceError(422, "invalid_request", "columns must be a list of feature names.")
    if on_error not in ("stop", "request", "row"):
        raise ServiceError(
            422, "invalid_request", 'on_error must be "stop" (or "request", which means the same) or "row".'
        )
    return rows, columns, on_error
