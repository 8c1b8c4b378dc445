"""The report that came with a model: its own page, under a policy that lets it draw and nothing else."""

import base64
import hashlib

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import BundleError, ServiceError
from batchproof.service.inference.model import Model
from batchproof.service.server.serving.app import App
from batchproof.service.server.web.models import find, visible_to


def routes(service: App) -> APIRouter:
    """Return the routes of reports."""
    router = APIRouter(tags=["models"])

    @router.get("/models/{name}/report", summary="Read a model's training report", response_class=HTMLResponse)
    def read(request: Request, name: str) -> Response:
        return page(find(visible_to(service, request), name))

    @router.get(
        "/models/{name}/versions/{version}/report",
        summary="Read the training report of one version",
        response_class=HTMLResponse,
    )
    def read_version(request: Request, name: str, version: int) -> Response:
        return page(find(visible_to(service, request), name, version))

    return router


def page(model: Model) -> Response:
    """Return report.html; raises 404 where the bundle has none, 503 where it was changed since it was verified."""
    name = model.manifest.name
    if "report.html" not in model.manifest.files:
        raise ServiceError(404, "no_report", f"The bundle of model {name!r} contains no report.")
    try:
        content = bundle.report(model.bundle)
    except BundleError as error:
        raise ServiceError(503, "report_changed", f"The report of model {name!r} is not sent: {error}.") from error
    return HTMLResponse(content, headers={"content-security-policy": policy(content)})


def policy(content: bytes) -> str:
    """Return the content security policy: the page's own style, known by its hash, and no script from anywhere."""
    _, _, rest = content.partition(b"<style>")
    digest = base64.b64encode(hashlib.sha256(rest.partition(b"</style>")[0]).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; sandbox"
    )
