"""The FastAPI application of what programs read about the service: same errors and same OpenAPI document as the predict routes in front of it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from batchproof import __version__
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import HEAD_KEY, RequestHead
from batchproof.service.runtime.logs import event
from batchproof.service.server.openapi.document import Document
from batchproof.service.server.serving.app import App
from batchproof.service.server.web import bundle_files, evidence, journal, models, report

DESCRIPTION = "Predictions that do not depend on what they were batched with."


def make_pages(service: App) -> FastAPI:
    """Return the pages of one service."""
    app = FastAPI(
        title="Batchproof",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        root_path=service.settings.root_path,
    )
    app.include_router(models.routes(service))
    app.include_router(report.routes(service))
    app.include_router(bundle_files.routes(service))
    app.include_router(evidence.routes(service))
    app.include_router(journal.routes(service))
    _add_documents(app, service)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    return app


def _add_documents(app: FastAPI, service: App) -> None:
    document = Document(app, service)

    def add(path: str, get: Callable[[Request], Response]) -> None:
        app.router.add_route(path, get, methods=["GET"], include_in_schema=False)

    add("/", lambda _: JSONResponse({"status": "alive"}))  # as clients of KServe ask; others get the page
    add("/openapi.json", lambda request: JSONResponse(_located(document.current(), request)))
    add("/swagger.json", partial(_swagger, document))


def _swagger(document: Document, request: Request) -> Response:
    """Answer where Azure ML's callers ask for the document, which is OpenAPI 3 only; a refusal has the shape that they know."""
    if request.query_params.get("version", "3") != "3":
        return JSONResponse({"message": "This document is OpenAPI 3; ask for version=3."}, 404)
    return JSONResponse(_located(document.current(), request))


def _located(document: dict[str, Any], request: Request) -> dict[str, Any]:
    """Return the OpenAPI document for a caller behind a proxy that says where it is."""
    forwarded = request.scope[HEAD_KEY].forwarded
    if not (forwarded.host or forwarded.prefix):
        return document
    own = request.base_url
    path = forwarded.prefix or own.path.rstrip("/")
    url = f"{forwarded.scheme or own.scheme}://{forwarded.host}{path}" if forwarded.host else forwarded.prefix
    return {**document, "servers": [{"url": url}]}


def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError), "registered for this kind only"
    return _refusal(request, error)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for this kind only"
    allow = {name.lower(): value for name, value in (error.headers or {}).items()}.get("allow")
    if error.status_code == 405:
        message = f"Method {request.method:.20} not allowed; use {allow}."
        return _refusal(request, ServiceError(405, "method_not_allowed", message, allow=allow))
    message = f"There is nothing at {request.url.path}; /docs lists what there is."
    return _refusal(request, ServiceError(error.status_code, "not_found", message))


def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for this kind only"
    first = error.errors()[0]
    where, *names = first["loc"]
    if where != "query":
        return _refusal(
            request, ServiceError(404, "unknown_version", "A version is a positive whole number such as 1.")
        )
    message = f"The parameter {'.'.join(map(str, names)):.100}: {first['msg'][:1].lower()}{first['msg'][1:]}."
    return _refusal(request, ServiceError(400, "invalid_parameter", message))


def _refusal(request: Request, error: ServiceError) -> Response:
    head: RequestHead = request.scope[HEAD_KEY]
    if error.status >= 500:
        event("request_failed", 40, request_id=head.request_id, route="pages", code=error.code)
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.as_json(head.request_id), error.status, headers, "application/json")
