"""The files of a bundle that predict elsewhere: a browser or a reader of docs/bundle.md loads them, and checks them again."""

import io
import zipfile

from fastapi import APIRouter, Request
from fastapi.responses import Response

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.manifest import REFERENCE_FILE
from batchproof.service.bundle.signing import SIGNATURE_FILE
from batchproof.service.configuration.address import LOOPBACK
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import BundleError, ServiceError
from batchproof.service.server.serving.app import App
from batchproof.service.server.web.models import find, visible_to

JSON, BYTES, ZIP = "application/json", "application/octet-stream", "application/zip"
ARCHIVE = "bundle.zip"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment of ZIP: the same bundle gives the same archive
TYPES = {"bundle.json": JSON, "model.onnx": BYTES, "golden.json": JSON, REFERENCE_FILE: JSON}


def routes(service: App) -> APIRouter:
    """Return the route of bundle files."""
    router = APIRouter(tags=["models"])

    @router.get(
        "/models/{name}/versions/{version}/bundle/{file}", summary="Load a file of a bundle", response_class=Response
    )
    def read(request: Request, name: str, version: int, file: str) -> Response:
        """Load `bundle.json`, `model.onnx`, `golden.json` or `reference.json`, to predict elsewhere; `bundle.zip` has every file."""
        model = find(visible_to(service, request), name, version)
        kept = [one for one in TYPES if one == "bundle.json" or one in model.manifest.files]
        if file not in (*kept, ARCHIVE):
            raise ServiceError(
                404, "no_file", f"The files of this bundle that are sent are {', '.join((*kept, ARCHIVE))}."
            )
        if file != REFERENCE_FILE and not shares_bundles(service.settings):
            message = "This service does not send the files of its models; the setting share_bundles allows it."
            raise ServiceError(403, "bundle_not_shared", message)
        try:
            content = archive(model.bundle) if file == ARCHIVE else bundle.file(model.bundle, file)
        except BundleError as error:
            message = f"The file {file} of model {name!r} is not sent: {error}."
            raise ServiceError(503, "bundle_changed", message) from error
        return Response(content, media_type=ZIP if file == ARCHIVE else TYPES[file])

    return router


def archive(served: bundle.Bundle) -> bytes:
    """Return a ZIP of NAME/VERSION/ with every file as it was verified; raises BundleError where one has changed since.

    Files are stored, not compressed: weights hardly shrink.
    """
    manifest = served.manifest
    contents = {name: bundle.file(served, name) for name in ("bundle.json", *manifest.files)}
    if (signature := bundle.signature(served)) is not None:
        contents[SIGNATURE_FILE] = signature
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        for name, content in contents.items():
            files.writestr(zipfile.ZipInfo(f"{manifest.name}/{manifest.version}/{name}", EPOCH), content)
    return packed.getvalue()


def shares_bundles(settings: Settings) -> bool:
    """Return whether whoever may read about a model may also have it."""
    if settings.share_bundles == "auto":
        return settings.wants_keys or settings.host in LOOPBACK
    return settings.share_bundles == "yes"
