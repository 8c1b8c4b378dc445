"""One served model as a client needs to know it, and the paths of requests for it in the two protocols."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from batchproof.service.client.messages import RefusedError, Request, Response

LIST = Request("GET", "/models", b"", {})
READY = Request("GET", "/health/ready", b"", {}, is_probe=True)


class Feature(NamedTuple):
    """One input column."""

    name: str
    kind: str  # numeric, categorical or date
    value_type: str  # float, integer, boolean, string or date
    missing: bool  # whether a value may be missing
    categories: Sequence[str] | None
    range: Sequence[float] | None  # of the training rows
    typical: Any


class Summary(NamedTuple):
    """One model in the list of those that are served."""

    name: str
    version: int  # the newest
    versions: Sequence[int]
    task: str  # binary, multiclass or regression
    is_default: bool
    fingerprint: Mapping[str, Any]


class Description(NamedTuple):
    """What GET /models/<name> says."""

    name: str
    version: int
    task: str
    features: Sequence[Feature]
    target: str  # of several, all names in one text: height, weight and age
    classes: Sequence[Any] | None
    metrics: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    quantiles: Sequence[float] = ()  # the levels of the quantiles beside a value
    targets: Sequence[str] = ()  # the names of several targets; empty where there is one


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

    def rows(self, body: bytes, first_row: int = 0) -> Request:
        """Return the native request for a body of rows."""
        return Request("POST", f"{self._path}/predict", body, {"content-type": "application/json"}, first_row)

    def tensors(self, head: bytes, binary: bytes, first_row: int = 0) -> Request:
        """Return the Open Inference Protocol's request for tensors."""
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        return Request("POST", f"/v2{self._path}/infer", head + binary, headers, first_row)


def described(response: Response) -> Description:
    """Return the description of a model."""
    content = json.loads(response.body)
    signature = content["signature"]
    return Description(
        content["name"],
        content["version"],
        content["task"],
        [Feature(*(feature[field] for field in Feature._fields)) for feature in signature["inputs"]],
        signature.get("target") or content["target"],
        signature.get("classes"),
        content["metrics"],
        content["fingerprint"],
        content.get("quantiles") or (),  # a service of before these does not say
        signature.get("targets") or (),
    )


def listed(response: Response) -> list[Summary]:
    """Return the models that are served."""
    return [
        Summary(
            model["name"], model["version"], model["versions"], model["task"], model["default"], model["fingerprint"]
        )
        for model in json.loads(response.body)["models"]
    ]


def default_of(response: Response) -> str:
    """Return the name of the default model; raises RefusedError, as the service would, where there is none."""
    models = listed(response)
    for model in models:
        if model.is_default:
            return model.name
    names = ", ".join(model.name for model in models)
    which = f"name one: {names}" if names else "no model is served"
    raise RefusedError(404, "no_default_model", f"There is no default model; {which}.", [])
