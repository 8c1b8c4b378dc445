"""Live, ready and metrics: answered without pages, so that a probe costs nothing and works from the first moment."""

from typing import Any

import orjson

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.interface import JSON, Answer
from batchproof.service.server.app import App

LIVE = Answer(200, (JSON,), b'{"live":true}')


def health(service: App, method: str, path: str) -> Answer | None:
    """Answer /health/live, /health/ready and /metrics; None for other paths."""
    if path not in ("/health/live", "/health/ready", "/metrics"):
        return None
    if method not in ("GET", "HEAD"):
        raise ServiceError(405, "method_not_allowed", f"{method} is not taken here; GET is.", allow="GET, HEAD")
    if path == "/health/live":
        return LIVE
    if path == "/metrics":
        return metrics(service)
    return Answer(200 if service.is_ready else 503, (JSON,), orjson.dumps(readiness(service)))


def readiness(service: App) -> dict[str, Any]:
    """Return whether requests are taken, the models that answer them, and those that were refused, with the reason."""
    models = [
        {"name": name, "version": version, "invariance": model.fingerprint["invariance"]}
        for name, versions in service.registry.models.items()
        for version, model in versions.items()
    ]
    refused = [refusal.__dict__ for refusal in service.registry.refusals]
    return {"ready": service.is_ready, "models": models, "refused": refused}


def metrics(service: App) -> Answer:
    """Return the counts of all workers as Prometheus reads them."""
    from batchproof.service.server.http import prometheus as exposition

    models = [
        {"model": name, "version": str(version), **{key: str(value) for key, value in model.fingerprint.items()}}
        for name, versions in service.registry.models.items()
        for version, model in versions.items()
    ]
    body = exposition.text(service.counters.total(), models)
    return Answer(200, ((b"content-type", exposition.CONTENT_TYPE),), body)
