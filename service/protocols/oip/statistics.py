"""Counts of a model in the shape of Triton's statistics extension: what `get_inference_statistics` of its client reads.

They are the counts of /metrics, over all workers and all wire formats. Times are nanoseconds, summed over requests
(`success`, `queue`, `compute_input`: decoding, `compute_output`: encoding) or over runs (`compute_infer`). The time of
refused requests and the caches that Triton has are not counted: their fields are 0.
"""

from collections.abc import Mapping
from typing import Any

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.runtime.metrics import ModelCounts, ModelKey


def statistics(manifest: Manifest, counts: Mapping[ModelKey, ModelCounts]) -> dict[str, Any]:
    """Return one element of `model_stats`."""
    key = ModelKey(manifest.name, manifest.version)
    model, queue = counts[key], counts[key].queue
    requests = int(model.summed("ok_requests"))
    refused = sum(sum(tally["refusals"].values()) for tally in model.routes.values())
    runs = sum(queue["runs_by_rows"])
    return {
        "name": key.name,
        "version": str(key.version),
        "inference_count": queue["rows"],
        "execution_count": runs,
        "inference_stats": {
            "success": _duration(requests, model.summed("sum_s")),
            "fail": _duration(refused, 0.0),
            "queue": _duration(requests, queue["queue_s"]),
            "compute_input": _duration(requests, model.summed("decode_s")),
            "compute_infer": _duration(runs, queue["run_s"]),
            "compute_output": _duration(requests, model.summed("encode_s")),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
