"""Counts as JSON, for the page Watch and for programs without a Prometheus parser. Imported when somebody asks.

As in the other formats, counts only grow while the service runs: a rate is the difference of two readings by that of
their times. A model that answered nothing, ran nothing and refused nothing is left out, so that a service with thousands
of models answers briefly.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from batchproof.service.runtime.change_counts import DIFFERENCES
from batchproof.service.runtime.metrics import ROWS, SECONDS, ModelCounts, models_of

if TYPE_CHECKING:
    from batchproof.service.drift.model_drift import Observed

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
    refusals: dict[str, int] = {}
    for tally in routes.values():
        for code, refused in tally["refusals"].items():
            refusals[code] = refusals.get(code, 0) + refused
    return {
        "routes": {name: tally["ok_requests"] for name, tally in routes.items() if tally["ok_requests"]},
        "answered": int(counts.summed("ok_requests")),
        "rows": int(counts.summed("ok_rows")),
        "cancelled": int(counts.summed("cancelled_requests")),
        "refusals": refusals,
        "seconds": _summed([tally["seconds"] for tally in routes.values()], len(SECONDS) + 1),
        "stages_s": {
            "decode": counts.summed("decode_s"),
            "queue": queue["queue_s"],
            "run": queue["run_s"],
            "encode": counts.summed("encode_s"),
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


def _window(window: Any) -> dict[str, Any]:
    """Return the last window of one length that ended: which features drifted, and the figures nearest to their thresholds."""
    plain = window.as_dict()
    report = window.report
    return {
        "window": plain["window"],
        "until": plain["until"],
        "rows": 0 if report is None else report.rows,
        "drifted": [] if report is None else report.drifted_names,
        "figures": [] if report is None else [one.as_dict() for one in report.foremost(FOREMOST_FIGURES)],
    }


def _summed(lists: Sequence[Sequence[int]], length: int) -> list[int]:
    return [sum(counts[place] for counts in lists) for place in range(length)]
