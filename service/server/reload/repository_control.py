"""Loading and unloading on a caller's order, as Triton's model repository extension has it, over HTTP and gRPC."""

import re
from collections.abc import Mapping
from typing import Any, cast

import orjson

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.oip.metadata import NOT_SERVED
from batchproof.service.server.loading.reloading import Kind
from batchproof.service.server.serving.app import App

PATH = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")


async def carry_out(app: App, kind: Kind, name: str, parameters: Mapping[str, Any]) -> None:
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


def order_of(path: str) -> tuple[Kind, str] | None:
    """Return what a path orders, and of which model."""
    match = PATH.fullmatch(path)
    return None if match is None else (cast(Kind, match[2]), match[1])


def parameters_of(body: bytes) -> Mapping[str, Any]:
    """Return the parameters of a request's body, which may be empty; raises 400."""
    if not body.strip():
        return {}
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, "broken_json", f"The body is not JSON: {error}.") from error
    parameters = content.get("parameters", {}) if isinstance(content, dict) else None
    if not isinstance(parameters, dict) or set(content) - {"parameters"}:
        raise ServiceError(400, "invalid_request", 'The body must be empty or an object with "parameters" only.')
    return parameters
