"""Counts of a model in the shape of Triton's statistics extension: what `get_inference_statistics` of its client reads.

They are the counts of /metrics, over all workers and all wire formats. Times are nanoseconds, summed over requests
(`success`, `queue`, `compute_input`: decoding, `compute_output`: encoding) or over runs (`compute_infer`). The time of
refused requests and the caches that Triton has are not counted: their fields are 0.
"""

from collections.abc import Mapping
from typing import Any

from batchproof.service.bundle.manifest import Manifest


def statistics(manifest: Manifest, counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return one element of `model_stats`; `counts` is what batchproof.service.metrics.Counters.total() returns."""
    name, version = manifest.name, str(manifest.version)
    tallies = [tally for key, tally in counts["tallies"].items() if key.split("|")[:2] == [name, version]]
    flow = counts["flows"][f"{name}|{version}"]
    requests = sum(tally["ok_requests"] for tally in tallies)
    runs = sum(flow["runs_by_rows"])
    return {
        "name": name,
        "version": version,
        "inference_count": flow["rows"],
        "execution_count": runs,
        "inference_stats": {
            "success": _duration(requests, sum(tally["sum_s"] for tally in tallies)),
            "fail": _duration(sum(sum(tally["refusals"].values()) for tally in tallies), 0.0),
            "queue": _duration(requests, flow["queue_s"]),
            "compute_input": _duration(requests, sum(tally["decode_s"] for tally in tallies)),
            "compute_infer": _duration(runs, flow["run_s"]),
            "compute_output": _duration(requests, sum(tally["encode_s"] for tally in tallies)),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
