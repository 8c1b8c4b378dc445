"""Loading, unloading and listing models, as Triton's model repository extension has it, over HTTP and gRPC."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.oip.metadata import NOT_SERVED
from batchproof.service.server.serving.app import App

if TYPE_CHECKING:
    from batchproof.service.server.loading.reloader import Kind

INDEX_PATH = "/v2/repository/index"
PATH = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")


async def carry_out(app: App, kind: "Kind", name: str, parameters: Mapping[str, Any]) -> None:
    """Return when every process does as ordered; raises ServiceError: 501 where that is off, 400 where it failed.

    The parameters that clients send by themselves are accepted where they mean what is done anyway.
    """
    if app.settings.model_control != "explicit" or app.model_control is None:
        raise ServiceError(501, "not_served", NOT_SERVED)
    for parameter, value in parameters.items():
        if kind == "unload" and parameter == "unload_dependents" and isinstance(value, bool):
            continue  # no model depends on another one
        raise ServiceError(
            400,
            "invalid_parameter",
            f"failed to {kind} '{name:.100}': the parameter {parameter!r:.60} is not supported. A model is loaded as its "
            "bundle and the settings say.",
        )
    await app.model_control.order(kind, name)


def order_of(path: str) -> "tuple[Kind, str] | None":
    """Return what a path orders, and of which model."""
    match = PATH.fullmatch(path)
    return None if match is None else (cast("Kind", match[2]), match[1])


def parameters_of(body: bytes) -> Mapping[str, Any]:
    """Return the parameters of the body of a load or unload, which may be empty; raises 400."""
    parameters = _only(body, "parameters", {})
    if not isinstance(parameters, dict):
        raise ServiceError(400, "invalid_request", '"parameters" must be an object.')
    return parameters


def is_ready_wanted(body: bytes) -> bool:
    """Return whether an index request, whose body may be empty, asks only for what is ready; raises 400."""
    is_ready = _only(body, "ready", default=False)
    if not isinstance(is_ready, bool):
        raise ServiceError(400, "invalid_request", '"ready" must be true or false.')
    return is_ready


def _only(body: bytes, key: str, default: Any) -> Any:
    """Return the value of the one key that a body may have, or `default`; raises 400."""
    if not body.strip():
        return default
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, "broken_json", f"The body is not JSON: {error}.") from error
    if not isinstance(content, dict) or set(content) - {key}:
        raise ServiceError(400, "invalid_request", f'The body must be empty or an object with "{key}" only.')
    return content.get(key, default)
