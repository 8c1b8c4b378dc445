"""One served model as a client needs to know it, and requests for it in the two protocols."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from batchproof.service.client.messages import RefusedError, Request, Response

ROWS_A_REQUEST = 8192  # a longer list or frame goes in several requests, so that no queue is filled by one caller

LIST = Request("GET", "/models", b"", {})
STOP = ("stop", "request")  # both words mean that one bad row refuses the request, as it is without the field

Row = Mapping[str, Any] | Sequence[Any]
Prediction = dict[str, Any]


class Feature(NamedTuple):
    """One input column."""

    name: str
    kind: str  # numeric, categorical or date
    value_type: str


class Described(NamedTuple):
    """What GET /models/<name> says."""

    name: str
    version: int
    features: Sequence[Feature]
    classes: Sequence[Any] | None


class Address(NamedTuple):
    """Where one model is: its name, and its version where not the newest is meant."""

    name: str
    version: int | None = None

    @property
    def _path(self) -> str:
        version = "" if self.version is None else f"/versions/{self.version}"
        return f"/models/{quote(self.name, safe='')}{version}"

    def describe(self) -> Request:
        """Return the request for the model's description."""
        return Request("GET", self._path, b"", {})

    def requests(self, rows: Sequence[Row], on_error: str) -> Iterator[Request]:
        """Yield the native requests for any number of rows."""
        for start in range(0, len(rows), ROWS_A_REQUEST):
            yield self.rows(rows[start : start + ROWS_A_REQUEST], on_error)

    def rows(self, rows: Sequence[Row], on_error: str) -> Request:
        """Return the native request for some rows."""
        content = {"rows": list(rows)} | ({} if on_error in STOP else {"on_error": on_error})
        body = json.dumps(content)
        return Request("POST", f"{self._path}/predict", body.encode(), {"content-type": "application/json"})

    def tensors(self, head: bytes, binary: bytes) -> Request:
        """Return the Open Inference Protocol's request for tensors."""
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        return Request("POST", f"/v2{self._path}/infer", head + binary, headers)


def described(response: Response) -> Described:
    """Return the description of a model."""
    content = json.loads(response.body)
    signature = content["signature"]
    features = [Feature(one["name"], one["kind"], one["value_type"]) for one in signature["inputs"]]
    return Described(content["name"], content["version"], features, signature.get("classes"))


def default_of(response: Response) -> str:
    """Return the name of the default model; raises RefusedError, as the service would, where there is none."""
    models = json.loads(response.body)["models"]
    for model in models:
        if model["default"]:
            return str(model["name"])
    names = ", ".join(model["name"] for model in models)
    which = f"name one: {names}" if names else "no model is served"
    raise RefusedError(404, "no_default_model", f"There is no default model; {which}.", [])


def predictions(response: Response) -> list[Prediction]:
    """Return the predictions of a native answer."""
    found: list[Prediction] = json.loads(response.body)["predictions"]
    return found
