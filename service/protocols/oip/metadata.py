"""What the Open Inference Protocol answers besides predictions: health, metadata, and what Triton's client calls.

Source: the protocol's REST specification; Triton's model repository, statistics and configuration extensions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

import batchproof
from batchproof.service import errors
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.errors import ServiceError
from batchproof.service.features.decoder import labels_of
from batchproof.service.inference.catalogue.registry import Registry
from batchproof.service.inference.model import Model
from batchproof.service.protocols.interface import JSON, Answer, ServerInfo
from batchproof.service.protocols.oip.inputs import MATRIX, datatype_of, takes_matrix
from batchproof.service.protocols.oip.statistics import statistics

EXTENSIONS = ("binary_tensor_data", "model_repository", "model_configuration", "statistics", "batch_invariant")
SHARED_MEMORY = ("systemsharedmemory", "cudasharedmemory", "xpusharedmemory")
NOT_SERVED = "explicit model load / unload is not allowed: the setting model_control is not explicit"


def page(site: ServerInfo, method: str, path: str) -> Answer | None:
    """Answer a path under /v2 that is not an infer route; None where there is nothing. Raises 404, 405 and others."""
    parts = tuple(path.strip("/").split("/")[1:])
    if parts == ("repository", "index"):
        _check_method(method, "POST")
        return index_answer(site.registry)
    if parts[:2] == ("repository", "models") and parts[-1:] in (("load",), ("unload",)):
        _check_method(method, "POST")
        raise ServiceError(501, "not_served", NOT_SERVED)
    if parts[:1] == ("models",) and parts[-1:] == ("infer",):
        model_of(site, parts[1:-1])  # raises for a model or version that is not there
        return None  # the path is there, but for a slash at its end
    if parts in PAGES:
        answer: Answer | None = PAGES[parts](site)
    else:
        answer = _of_model(site, parts[1:]) if parts[:1] == ("models",) else None
    if answer is not None:
        _check_method(method, "GET")
    return answer


def _server(site: ServerInfo) -> Answer:
    return _json({"name": "batchproof", "version": batchproof.__version__, "extensions": EXTENSIONS})


def _live(site: ServerInfo) -> Answer:
    return _json({"live": True})


def _ready(site: ServerInfo) -> Answer:
    return _json({"ready": site.is_ready}, 200 if site.is_ready else 503)


def _models(site: ServerInfo) -> Answer:
    return _json({"models": list(site.registry.models)})


def _all_stats(site: ServerInfo) -> Answer:
    counts = site.counts()
    models = [model for versions in site.registry.models.values() for model in versions.values()]
    return _json({"model_stats": [statistics(model.manifest, counts) for model in models]})


def _no_regions(site: ServerInfo) -> Answer:
    return _json([])


PAGES: dict[tuple[str, ...], Callable[[ServerInfo], Answer]] = {
    (): _server,
    ("health", "live"): _live,
    ("health", "ready"): _ready,
    ("models",): _models,
    ("models", "stats"): _all_stats,
    **{(memory, "status"): _no_regions for memory in SHARED_MEMORY},
}


def _of_model(site: ServerInfo, parts: Sequence[str]) -> Answer | None:
    last = parts[-1] if len(parts) in (2, 4) else ""
    if last not in ("ready", "config", "stats", ""):
        return None
    model = model_of(site, parts[:-1] if last else parts)
    if last == "ready":
        return _json({"name": model.manifest.name, "ready": site.is_ready}, 200 if site.is_ready else 503)
    if last == "config":
        return _json(_config(model.manifest))
    if last == "stats":
        return _json({"model_stats": [statistics(model.manifest, site.counts())]})
    return _json(_metadata(site, model))


def model_of(site: ServerInfo, parts: Sequence[str]) -> Model:
    """Return the model that [name] or [name, "versions", version] means; raises 404."""
    if len(parts) not in (1, 3) or (len(parts) == 3 and parts[1] != "versions"):
        raise ServiceError(404, "not_found", "Not Found")
    models = site.registry.models
    name = parts[0]
    if name not in models:
        raise ServiceError(
            404,
            "unknown_model",
            f"Request for unknown model: '{errors.printable(name[:100])}' is not found."
            f"{errors.nearest(name, list(models))}",
        )
    if len(parts) == 1:
        return site.registry.newest(name)
    by_version = {str(version): model for version, model in models[name].items()}
    if parts[2] not in by_version:
        raise ServiceError(
            404,
            "unknown_version",
            f"Request for unknown model: '{name:.100}' version {errors.printable(parts[2][:20])} is not found; "
            f"served are {', '.join(by_version)}",
        )
    return by_version[parts[2]]


def inputs_of(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the input tensors of metadata; the matrix stands for all features where they are numeric."""
    features = manifest.signature.inputs
    if takes_matrix(manifest):
        return [{"name": MATRIX, "datatype": "FP64", "shape": [-1, len(features)]}]
    return [{"name": feature.name, "datatype": datatype_of(feature), "shape": [-1, 1]} for feature in features]


def outputs_of(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the output tensors of metadata."""
    classes = manifest.signature.classes
    if classes is None:
        levels = len(manifest.quantile_keys)
        quantiles = [{"name": "quantiles", "datatype": "FP32", "shape": [-1, levels]}] if levels else []
        return [{"name": "value", "datatype": "FP32", "shape": [-1, len(manifest.signature.target_names)]}, *quantiles]
    return [
        {"name": "label", "datatype": labels_of(classes)[0], "shape": [-1, 1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(classes)]},
    ]


def _metadata(site: ServerInfo, model: Model) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "versions": [str(version) for version in sorted(site.registry.models[manifest.name])],
        "platform": "onnxruntime_onnx",
        "inputs": inputs_of(manifest),
        "outputs": outputs_of(manifest),
        "properties": {
            "features": ",".join(feature.name for feature in manifest.signature.inputs),
            **({"targets": ",".join(manifest.signature.targets)} if manifest.signature.targets else {}),
            **{name: str(value) for name, value in model.fingerprint.items()},
        },
    }


def _config(manifest: Manifest) -> dict[str, Any]:
    """Return a model configuration in the shape of Triton's; a dimension list there leaves the rows out."""

    def tensors(described: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"name": tensor["name"], "data_type": _config_type(tensor["datatype"]), "dims": tensor["shape"][1:]}
            for tensor in described
        ]

    return {
        "name": manifest.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [manifest.version]}},
        "max_batch_size": 2**31 - 1,
        "input": tensors(inputs_of(manifest)),
        "output": tensors(outputs_of(manifest)),
    }


def _config_type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def index(registry: Registry, *, is_ready: bool = False) -> list[dict[str, str]]:
    """Return name, version, state and reason of every version that is known; with `is_ready` of those that serve."""
    loaded = [
        {"name": name, "version": str(version), "state": "READY", "reason": ""}
        for name, versions in registry.models.items()
        for version in sorted(versions)
    ]
    refused = [
        {"name": refusal.name, "version": str(refusal.version or ""), "state": "UNAVAILABLE", "reason": refusal.message}
        for refusal in registry.refusals
    ]
    unloaded = [
        {"name": name, "version": str(version or ""), "state": "UNAVAILABLE", "reason": "unloaded"}
        for name, version in registry.unloaded
    ]
    return loaded if is_ready else loaded + refused + unloaded


def index_answer(registry: Registry, *, is_ready: bool = False) -> Answer:
    """Return the index as an answer over HTTP."""
    return _json(index(registry, is_ready=is_ready))


def _check_method(method: str, wanted: str) -> None:
    if method != wanted and not (wanted == "GET" and method == "HEAD"):
        allow = "GET, HEAD" if wanted == "GET" else wanted
        raise ServiceError(405, "method_not_allowed", "Method Not Allowed", allow=allow)


def _json(content: Any, status: int = 200) -> Answer:
    return Answer(status, (JSON,), orjson.dumps(content))
