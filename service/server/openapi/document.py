"""One OpenAPI document of all routes."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from threading import Lock
from typing import Any

from fastapi import FastAPI

from batchproof.service.inference.model import Model
from batchproof.service.server.openapi.cloud import TITLES, cloud_paths
from batchproof.service.server.openapi.native import SCHEMAS, native_paths, refusal
from batchproof.service.server.openapi.oip import oip_paths
from batchproof.service.server.openapi.repository import repository_paths
from batchproof.service.server.serving.app import App

DESCRIBED: Mapping[str, Callable[[Model, Sequence[str]], dict[str, Any]]] = {  # protocol name -> its path items
    "native": native_paths,
    "oip": oip_paths,
    **{name: partial(cloud_paths, name) for name in TITLES},
}


KEY = "A key or a token, as Authorization: Bearer KEY. What it opens depends on its scopes and models."


class Document:
    """The document of what is served now: made when it is asked for, and anew after the table of routes was replaced.

    It takes about 20 ms a model, so pages that do not need it must not wait for it. Any thread may ask.
    """

    def __init__(self, pages: FastAPI, app: App) -> None:
        """Describe the routes of `pages`, and the predict routes that `app` has at the time of each request."""
        self._pages = pages
        self._app = app
        self._revision = -1
        self._content: dict[str, Any] = {}
        self._making = Lock()

    def current(self) -> dict[str, Any]:
        """Return the document of the present routes."""
        with self._making:
            revision = self._app.revision
            if revision != self._revision:
                self._content, self._revision = openapi(self._pages, self._app), revision
            return self._content


def openapi(pages: FastAPI, app: App) -> dict[str, Any]:
    """Return one document of the pages' and all protocols' routes."""
    document = deepcopy(pages.openapi())
    document["openapi"] = "3.1.0"
    if app.settings.root_path:  # every path below is behind the prefix that a proxy puts before it
        document["servers"] = [{"url": app.settings.root_path}]
    document["tags"] = [{"name": "predict"}, {"name": "models"}, {"name": "journal"}, {"name": "health"}]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(SCHEMAS)
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None)
            operation["responses"].setdefault("404", refusal("There is no such model or version."))
    predict: dict[str, Any] = {}
    routes = app.routes.endpoints
    for deployment in app.deployments.values():
        for protocol in app.protocols:
            paths = protocol.paths(deployment.model, is_default=True, is_newest=True)
            described = described_paths(protocol.name, deployment.model, paths)
            endpoint = deployment.endpoints[protocol.name]
            predict |= {path: described[path] for path in described if routes.get(path) is endpoint}
            for label in deployment.labels:
                predict |= described_paths(
                    protocol.name, deployment.model, protocol.label_paths(deployment.model, label)
                )
    repository = repository_paths(app.registry, is_explicit=app.settings.model_control == "explicit")
    document["paths"] = {**predict, **document["paths"], **repository, **_health()}
    if app.authorization is not None:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": KEY}}
        document["security"] = [{"key": []}]
    return document


def described_paths(protocol: str, model: Model, paths: Sequence[str]) -> dict[str, Any]:
    """Return {path: item} of one protocol's predict routes for `model`; raises KeyError for an undescribed protocol."""
    return DESCRIBED[protocol](model, paths)


def _health() -> dict[str, Any]:
    answer = {"content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "/health/live": {
            "get": {
                "tags": ["health"],
                "summary": "Is the process alive?",
                "responses": {"200": {"description": "It is.", **answer}},
            }
        },
        "/health/ready": {
            "get": {
                "tags": ["health"],
                "summary": "Are requests accepted, and for which models?",
                "responses": {
                    "200": {"description": "They are.", **answer},
                    "503": {"description": "They are not.", **answer},
                },
            }
        },
    }
