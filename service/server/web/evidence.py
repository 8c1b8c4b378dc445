"""What is known of one version beyond its description: where it answers, what it was trained on, and why its bits hold."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel

from batchproof.service.bundle.rows.reference import Column, Reference
from batchproof.service.inference.model import Model
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.server.serving.app import App
from batchproof.service.server.web.models import find, visible_to


class Distribution(BaseModel):
    """Rows of the training table by cell: intervals between `edges`, or the listed `codes` and then all others."""

    edges: list[float] | None
    codes: list[int] | None
    counts: list[int]
    missing: int
    unseen: int


class Evidence(BaseModel):
    """The evidence for one version."""

    name: str
    version: int
    routes: dict[str, list[str]]
    training_rows: int | None
    features: list[Distribution | None]
    predictions: Distribution | None  # of a model with one target
    target_predictions: list[Distribution | None]  # of each of several targets
    certificate: dict[str, Any] | None
    golden_rows: int
    bits: str
    signer: str | None
    unsigned: str | None
    files: dict[str, str]


def routes(service: App) -> APIRouter:
    """Return the route of the evidence."""
    router = APIRouter(tags=["models"])

    @router.get("/models/{name}/versions/{version}/evidence", summary="Read a version's routes, statistics and proof")
    def read(request: Request, name: str, version: Annotated[int, Path(ge=1)]) -> Evidence:
        return evidence(service, find(visible_to(service, request), name, version))

    return router


def evidence(service: App, model: Model) -> Evidence:
    """Return what is known of a version."""
    manifest, bundle, reference = model.manifest, model.bundle, model.bundle.reference
    certificate = manifest.arithmetic.certificate
    predictions = reference.predictions if reference else ()
    return Evidence(
        name=manifest.name,
        version=manifest.version,
        routes=addresses(service, ModelKey(manifest.name, manifest.version)),
        training_rows=reference.rows if reference else None,
        features=_features(reference, len(manifest.signature.inputs)),
        predictions=_distribution(predictions[0]) if predictions and manifest.signature.targets is None else None,
        target_predictions=[_distribution(column) for column in predictions] if manifest.signature.targets else [],
        certificate=certificate,
        golden_rows=len(bundle.golden.rows),
        bits=model.verification.bits if model.verification else "",
        signer=str(bundle.signer) if bundle.signer else None,
        unsigned=bundle.unsigned,
        files={name: entry.sha256 for name, entry in manifest.files.items()},
    )


def addresses(service: App, key: ModelKey) -> dict[str, list[str]]:
    """Return {protocol: the paths at which this version answers}, the shortest first, as the table of routes has them."""
    found: dict[str, list[str]] = {}
    prefix = service.settings.root_path
    for path, endpoint in service.routes.endpoints.items():
        if endpoint.key == key and not (prefix and path.startswith(prefix + "/")):
            found.setdefault(endpoint.protocol.name, []).append(path)
    return {name: sorted(paths, key=lambda path: (len(path), path)) for name, paths in found.items()}


def _features(reference: Reference | None, count: int) -> list[Distribution | None]:
    columns = reference.features if reference else (None,) * count
    return [_distribution(column) for column in columns]


def _distribution(column: Column | None) -> Distribution | None:
    if column is None:
        return None
    is_numeric = column.codes is None
    return Distribution(
        edges=column.edges.tolist() if column.edges is not None else None,
        codes=column.codes.tolist() if column.codes is not None else None,
        counts=column.counts[: column.missing_cell].tolist(),
        missing=int(column.counts[column.missing_cell]),
        unseen=0 if is_numeric else int(column.counts[column.unseen_cell]),
    )
