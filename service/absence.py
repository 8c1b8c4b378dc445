"""Why a model or a version does not answer: it was refused, or it is not there."""

from service.errors import ServiceError, nearest
from service.registry import Registry


def absent(registry: Registry, name: str, version: int | None = None) -> ServiceError:
    """Return 503 with the sentence that refused the model or this version of it, else 404 with what there is."""
    for refusal in registry.refusals:
        if refusal.name == name and version in (None, refusal.version) and name in registry.names:
            which = name if refusal.version is None else f"{name} version {refusal.version}"
            return ServiceError(503, "model_refused", f"{which} was refused: {refusal.message.rstrip('.')}.")
    if name not in registry.models:
        return ServiceError(404, "unknown_model", f"There is no model {name!r}.{nearest(name, registry.names)}")
    served = ", ".join(map(str, sorted(registry.models[name])))
    return ServiceError(404, "unknown_version", f"Model {name!r} is served in version {served} alone.")
