"""Counts as JSON, for the page Watch and for programs without a Prometheus parser. Imported when somebody asks.

As in the other formats, counts only grow while the service runs: a rate is the difference of two readings by that of
their times. A model that answered nothing, ran nothing and refused nothing is left out, so that a service with thousands
of models answers briefly.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchproof.service.runtime.change_counts import DIFFERENCES
from batchproof.service.runtime.metrics import ROWS, SECONDS, ModelCounts, Tally, add, models_of

if TYPE_CHECKING:
    from batchproof.service.drift.model_drift import Observed
    from batchproof.service.drift.windows import Ended

FOREMOST_FIGURES = 20  # of the drift of one window


def figures(total: Mapping[str, Any], drift: Mapping[tuple[str, str], "Observed"]) -> dict[str, Any]:
    """Return the counts of all workers; histograms count by bucket, not cumulatively, and end with what is beyond all bounds."""
    models = [
        {"name": key.name, "version": key.version, **_of_model(counts, drift.get((key.name, str(key.version))))}
        for key, counts in models_of(total).items()
        if _is_active(counts)
    ]
    now = total.get("now", {})
    return {
        "time_s": time.time(),
        "bounds": {"seconds": SECONDS, "rows": ROWS, "differences": DIFFERENCES},
        "queue_rows": now.get("queue_rows", 0),
        "workers": now.get("workers", 0),
        "models": models,
        "reloads": total.get("reloads", {}),
        "events": total.get("events", {}),
        "journal": total.get("journal", {}),
    }


def _is_active(counts: ModelCounts) -> bool:
    return bool(counts.queue["rows"]) or any(
        tally["ok_requests"] or tally["cancelled_requests"] or tally["refusals"] for tally in counts.routes.values()
    )


def _of_model(counts: ModelCounts, observed: "Observed | None") -> dict[str, Any]:
    queue, routes = counts.queue, counts.routes
    total = add([Tally().snapshot(), *routes.values()])  # zeros where nothing came
    return {
        "routes": {name: tally["ok_requests"] for name, tally in routes.items() if tally["ok_requests"]},
        "answered": total["ok_requests"],
        "rows": total["ok_rows"],
        "cancelled": total["cancelled_requests"],
        "refusals": total["refusals"],
        "seconds": total["seconds"],
        "stages_s": {
            "decode": total["decode_s"],
            "queue": queue["queue_s"],
            "run": queue["run_s"],
            "encode": total["encode_s"],
        },
        "runs_by_rows": queue["runs_by_rows"],
        "run_rows": queue["rows"],
        "failed_runs": queue["failed_runs"],
        "audits": {
            "same": counts.audit["looked"] - counts.audit["violations"],
            "different": counts.audit["violations"],
        }
        if counts.audit
        else {},
        "shadows": counts.shadows,
        "drift": [] if observed is None else [_window(window) for window in observed.windows],
    }


def _window(window: "Ended") -> dict[str, Any]:
    """Return the last window of one length that ended: which features drifted, and the figures nearest to their thresholds."""
    plain = window.as_dict(FOREMOST_FIGURES)
    return {name: plain[name] for name in ("window", "until", "rows", "drifted", "figures")}
