"""Why a model or a version does not answer: it was refused, or it is not there."""

from collections.abc import Sequence

from service.errors import ServiceError, nearest
from service.features import listed
from service.registry import Registry


def absent(registry: Registry, name: str, version: int | None = None) -> ServiceError:
    """Return 503 with the sentence that refused the model or this version of it, else 404 with what there is."""
    for refusal in registry.refusals:
        if refusal.name == name and version in (None, refusal.version) and name in registry.names:
            which = name if refusal.version is None else f"{name} version {refusal.version}"
            return ServiceError(503, "model_refused", f"{which} was refused: {refusal.message.rstrip('.')}.")
    if name not in registry.models:
        return unknown_model(name, registry.names)
    served = ", ".join(map(str, sorted(registry.models[name])))
    return ServiceError(404, "unknown_version", f"Model {name!r} is served in version {served} alone.")


def unknown_model(name: str, names: Sequence[str]) -> ServiceError:
    """Return 404 with the nearest of `names`, else with all of them, a long list cut."""
    start = f"There is no model {name!r:.100}"
    if near := nearest(name, names):
        return ServiceError(404, "unknown_model", f"{start}.{near}")
    there = "none is served" if not names else f"there {'is' if len(names) == 1 else 'are'} {listed(names)}"
    return ServiceError(404, "unknown_model", f"{start}; {there}.")
