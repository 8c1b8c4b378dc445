"""What the pages say about models: signature, ranges, metrics, provenance, versions."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel

from batchproof.service.bundle.manifest import REFERENCE_FILE
from batchproof.service.inference.catalogue.registry import Registry, absent
from batchproof.service.inference.model import Model
from batchproof.service.protocols.head import HEAD_KEY
from batchproof.service.runtime.change_counts import DIFFERENCES
from batchproof.service.runtime.metrics import ModelKey, models_of
from batchproof.service.server.serving.app import App
from batchproof.service.server.serving.banner import row


class ModelStamp(BaseModel):
    """What answered."""

    name: str
    version: int
    fingerprint: dict[str, Any]


class ModelSummary(ModelStamp):
    """One served model in a list."""

    task: str
    versions: list[int]
    default: bool
    target: str  # for people; of several, all names in one text
    targets: list[str]
    features: int
    report: bool
    label_versions: dict[str, int]


class Decision(BaseModel):
    """Which class of two is the label: the second where its probability is at least the threshold, else the first."""

    threshold: float
    rule: str
    rows: int


class ModelDetail(ModelSummary):
    """All that a served model says of itself."""

    signature: dict[str, Any]  # as bundle.json has it
    decision: Decision | None  # which of two classes is the label; null: the most probable class
    quantiles: list[float]  # the levels of the quantiles beside a value
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    verification: dict[str, Any] | None
    drift: dict[str, Any] | None
    labels: list[str]
    shadow: dict[str, Any] | None
    example: dict[str, Any]
    coverages: list[float]  # that prediction sets and intervals can have
    reference: bool  # whether the bundle has statistics of its training rows


class Refused(BaseModel):
    """A bundle that is not served, and why; without a version where its folder has no number."""

    name: str
    version: int | None
    message: str


class ModelList(BaseModel):
    """Every served model, and what was refused."""

    models: list[ModelSummary]
    refused: list[Refused]


def routes(service: App) -> APIRouter:
    """Return the routes about models."""
    router = APIRouter(tags=["models"])

    @router.get("/models", summary="List the models")
    def list_models(request: Request) -> ModelList:
        registry = visible_to(service, request)
        served = [ModelSummary(**summary(service, registry.newest(name))) for name in registry.models]
        return ModelList(models=served, refused=[Refused(**one.__dict__) for one in registry.refusals])

    @router.get("/models/{name}", summary="Describe a model's newest version")
    def describe_newest(request: Request, name: str) -> ModelDetail:
        return ModelDetail(**detail(service, find(visible_to(service, request), name)))

    @router.get("/models/{name}/versions/{version}", summary="Describe one version of a model")
    def describe(request: Request, name: str, version: Annotated[int, Path(ge=1)]) -> ModelDetail:
        return ModelDetail(**detail(service, find(visible_to(service, request), name, version)))

    return router


def visible_to(service: App, request: Request) -> Registry:
    """Return what is served of which this caller may know."""
    grant = request.scope[HEAD_KEY].grant
    return service.registry if grant is None else service.registry.only(grant.covers)


def find(registry: Registry, name: str, version: int | None = None) -> Model:
    """Return a served model; raises 404 with the nearest name, or 503 where it was refused."""
    versions = registry.models.get(name)
    if versions is None or (version is not None and version not in versions):
        raise absent(registry, name, version)
    return registry.newest(name) if version is None else versions[version]


def summary(service: App, model: Model) -> dict[str, Any]:
    """Return what a list of models shows."""
    return {
        "name": model.manifest.name,
        "version": model.manifest.version,
        "task": model.manifest.task,
        "versions": sorted({*service.registry.models.get(model.manifest.name, ()), model.manifest.version}),
        "default": model.manifest.name == service.default,
        "target": model.manifest.signature.predicted,
        "targets": list(model.manifest.signature.target_names),
        "features": len(model.manifest.signature.inputs),
        "report": "report.html" in model.manifest.files,
        "label_versions": label_versions(service, model.manifest.name),
        "fingerprint": model.fingerprint,
    }


def label_versions(service: App, name: str) -> dict[str, int]:
    """Return {label: version} of a model."""
    versions = service.registry.models.get(name, {})
    return {label: version for version in versions for label in service.registry.labels_of(name, version)}


def detail(service: App, model: Model) -> dict[str, Any]:
    """Return everything that the page of one model says."""
    manifest = model.manifest
    verification = model.verification
    observed = service.shared.drift.observed(manifest, service.counters.total())
    return {
        **summary(service, model),
        "signature": manifest.signature.model_dump(),
        "decision": manifest.decision.model_dump() if manifest.decision else None,
        "quantiles": list(manifest.quantiles or ()),
        "metrics": manifest.metrics,
        "provenance": manifest.provenance,
        "verification": verification.as_dict() if verification else None,
        "drift": observed.as_dict() if observed else None,
        "labels": service.registry.labels_of(manifest.name, manifest.version),
        "shadow": _shadow(service, model),
        "example": {"rows": [row(model)]},
        "coverages": list(manifest.coverages),
        "reference": REFERENCE_FILE in manifest.files,
    }


def _shadow(service: App, model: Model) -> dict[str, Any] | None:
    """Return what the comparison of this version with its challenger has found, in all workers; None for no challenger."""
    name, version = model.manifest.name, service.registry.shadows.get(model.manifest.name)
    if version in (None, model.manifest.version) or service.registry.newest(name) is not model:
        return None
    counts = models_of(service.counters.total()).get(ModelKey(name, model.manifest.version))
    found = counts.shadows.get(str(version), {}) if counts else {}
    rows = found.get("by_difference", [])
    bounds = [*(f"up to {bound:g}" for bound in DIFFERENCES), "beyond"]
    return {
        "version": version,
        **{field: found.get(field, 0) for field in ("batches", "rows", "labels_changed", "dropped", "failed")},
        "rows_by_difference": dict(zip(bounds, rows, strict=False)),
    }
