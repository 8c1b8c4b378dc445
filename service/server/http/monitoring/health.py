"""Live, ready and metrics: answered without FastAPI, so that a probe is cheap and works from the first moment."""

from typing import Any

import orjson

from batchproof.service.errors import ServiceError
from batchproof.service.inference.catalogue.registry import Registry
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import JSON, Answer
from batchproof.service.server.serving.app import App

LIVE = Answer(200, (JSON,), b'{"live":true}')
STUCK = Answer(503, (JSON,), b'{"live":false}')
OPTIONS_PATHS = ("/", "*", "/*")  # which load balancers check with OPTIONS, HAProxy's `option httpchk` by default
ALLOW = (b"allow", b"GET, HEAD, POST, OPTIONS")


def health(app: App, head: RequestHead, path: str, registry: Registry | None) -> Answer:
    """Answer /health/live, /health/ready or /metrics, and OPTIONS of the service as a whole; raises 405.

    `registry`: what is served of which the caller may know; None: it learns only whether the process is ready.
    """
    method = head.method
    if method == "OPTIONS" and path in OPTIONS_PATHS:
        return Answer(204 if app.is_ready else 503, (ALLOW,), b"")
    if method not in ("GET", "HEAD"):
        message = f"Method {method:.20} not allowed; use GET."
        raise ServiceError(405, "method_not_allowed", message, allow="GET, HEAD")
    if path == "/health/live":
        return STUCK if app.is_stuck else LIVE
    if path == "/metrics":
        return metrics(app, head.special.get(b"accept"))
    state = (
        {"ready": app.is_ready}
        if registry is None
        else {"ready": app.is_ready, "generation": app.generation, **readiness(registry)}
    )
    return Answer(200 if app.is_ready else 503, (JSON,), orjson.dumps(state))


def readiness(registry: Registry) -> dict[str, Any]:
    """Return the models that are served, and those that were refused, with the reason."""
    models = [
        {"name": name, "version": version, "invariance": model.fingerprint["invariance"]}
        for name, versions in registry.models.items()
        for version, model in versions.items()
    ]
    return {"models": models, "refused": [refusal.__dict__ for refusal in registry.refusals]}


def metrics(app: App, accept: bytes | None) -> Answer:
    """Return the counts of all workers in the format that `accept` prefers."""
    from batchproof.service.server.http.monitoring import prometheus

    total = app.counters.total()
    drift = {
        (name, str(version)): observed
        for name, versions in app.registry.models.items()
        for version, model in versions.items()
        if (observed := app.shared.drift.observed(model.manifest, total)) is not None
    }
    media_type = prometheus.media_type_for(accept)
    if media_type == prometheus.PLAIN_JSON:
        from batchproof.service.server.http.monitoring.figures import figures

        return Answer(200, (JSON, (b"vary", b"accept")), orjson.dumps(figures(total, drift)))
    models = [
        {"model": name, "version": str(version), **{key: str(value) for key, value in model.fingerprint.items()}}
        for name, versions in app.registry.models.items()
        for version, model in versions.items()
    ]
    body = prometheus.text(total, models, drift, media_type)
    return Answer(200, ((b"content-type", prometheus.CONTENT_TYPES[media_type]), (b"vary", b"accept")), body)
