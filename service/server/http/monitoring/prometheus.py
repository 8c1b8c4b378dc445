"""Counts to the text that Prometheus reads. Imported when somebody asks: prometheus_client is not needed before."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics

from batchproof.service.protocols.accept import preferred
from batchproof.service.runtime.change_counts import DIFFERENCES
from batchproof.service.runtime.metrics import EVENTS, EXEMPLARS, ROWS, SECONDS, ModelCounts, models_of

if TYPE_CHECKING:
    from batchproof.service.drift.model_drift import Observed

TEXT, OPEN_METRICS, PLAIN_JSON = "text/plain", "application/openmetrics-text", "application/json"
CONTENT_TYPES = {
    TEXT: b"text/plain; version=0.0.4; charset=utf-8",
    OPEN_METRICS: b"application/openmetrics-text; version=1.0.0; charset=utf-8",
}
MODEL = ("model", "version")
Models = Mapping[tuple[str, str], ModelCounts]  # by the labels MODEL
DRIFT_SERIES = 100  # figures of one window of one model, at most
STAGES = ("decode", "queue", "run", "encode")


class _Collector:
    """Hands one reading of the counts to prometheus_client."""

    def __init__(self, total: dict[str, Any]) -> None:
        self._total = total

    def collect(self) -> Iterator[Metric]:
        models = {(key.name, str(key.version)): counts for key, counts in models_of(self._total).items()}
        yield from _requests(models, self._total.get(EXEMPLARS, {}))
        yield from _runs(models)
        yield _stages(models)
        yield from _callers(self._total.get("callers", {}))
        yield from _journal(self._total.get("journal", {}))
        yield from _spans(self._total.get("spans", {}))
        now = self._total.get("now", {})
        yield GaugeMetricFamily(
            "batchproof_queue_rows", "Rows admitted and not yet answered.", now.get("queue_rows", 0)
        )
        yield GaugeMetricFamily("batchproof_workers", "Processes that serve.", now.get("workers", 0))
        yield from _shadows(models)
        yield _events(self._total.get("events", {}))
        yield from _reloads(self._total.get("reloads", {}))


def media_type_for(accept: bytes | None) -> str:
    """Return the format that Accept prefers; the oldest where it names none of them."""
    return preferred(accept, (TEXT, OPEN_METRICS, PLAIN_JSON)) or TEXT


def text(
    total: dict[str, Any],
    models: Sequence[dict[str, str]],
    drift: Mapping[tuple[str, str], "Observed"] | None = None,
    media_type: str = TEXT,
) -> bytes:
    """Return the exposition of `total` counts, of the `models` that are served, and of their drift.

    OpenMetrics has exemplars too: the ids of a traced request for each bucket of the time that requests take.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(total))
    registry.register(_Drift(drift or {}))
    registry.register(_Models(models))
    if media_type == OPEN_METRICS:
        return cast(bytes, openmetrics.generate_latest(registry))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class _Drift:
    """Rows counted to find drift, and what the last windows that ended say."""

    def __init__(self, models: Mapping[tuple[str, str], "Observed"]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        if not self._models:
            return
        rows = CounterMetricFamily("batchproof_drift_rows", "Rows for drift by outcome.", labels=(*MODEL, "outcome"))
        window_rows = GaugeMetricFamily(
            "batchproof_drift_window_rows", "Rows of the last window.", labels=(*MODEL, "window")
        )
        drifted = GaugeMetricFamily(
            "batchproof_drifted_features", "Features that drifted in the last window.", labels=(*MODEL, "window")
        )
        labels = (*MODEL, "feature", "kind", "window")
        values = GaugeMetricFamily("batchproof_drift", "A figure of change in the last window.", labels=labels)
        points = GaugeMetricFamily("batchproof_drift_threshold", "What it passes by chance only.", labels=labels)
        for key, observed in self._models.items():
            rows.add_metric([*key, "counted"], observed.counted_rows)
            rows.add_metric([*key, "skipped"], observed.skipped_rows)
            for window in observed.windows:
                if (report := window.report) is None:
                    continue
                window_rows.add_metric([*key, window.name], report.rows)
                if report.changes:
                    drifted.add_metric([*key, window.name], len(report.drifted_names))
                for change in report.foremost(DRIFT_SERIES):
                    labelled = [*key, change.feature, change.kind, window.name]
                    values.add_metric(labelled, change.figure.value)
                    points.add_metric(labelled, change.figure.threshold)
        yield from (rows, window_rows, drifted, values, points)


class _Models:
    """Which models are served, as labels of a constant."""

    def __init__(self, models: Sequence[dict[str, str]]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        family = InfoMetricFamily("batchproof_model", "A served model and what its answers are made by.", labels=MODEL)
        for model in self._models:
            labels = [model[name] for name in MODEL]
            family.add_metric(labels, {name: value for name, value in model.items() if name not in MODEL})
        yield family


def _requests(models: Models, exemplars: Mapping[str, Any]) -> Iterator[Metric]:
    labels = (*MODEL, "route")
    requests = CounterMetricFamily("batchproof_requests", "Predict requests by outcome.", labels=(*labels, "outcome"))
    rows = CounterMetricFamily("batchproof_rows", "Rows answered.", labels=labels)
    seconds = HistogramMetricFamily(
        "batchproof_request_seconds", "From the whole request to its answer, answered requests.", labels=labels
    )
    tallies = {(*key, route): tally for key, counts in models.items() for route, tally in counts.routes.items()}
    for labelled, tally in tallies.items():
        outcomes = {"ok": tally["ok_requests"], "cancelled": tally["cancelled_requests"], **tally["refusals"]}
        for outcome, count in outcomes.items():
            requests.add_metric([*labelled, outcome], count)
        rows.add_metric(labelled, tally["ok_rows"])
        buckets = _with_exemplars(_buckets(SECONDS, tally["seconds"]), exemplars.get("/".join(labelled), {}))
        seconds.add_metric(labelled, buckets, tally["sum_s"])
    yield from (requests, rows, seconds)


def _callers(callers: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    """Give what each owner of a key asked for; nothing where no keys are needed."""
    if not callers:
        return
    requests = CounterMetricFamily("batchproof_caller_requests", "Requests by caller.", labels=("caller", "outcome"))
    rows = CounterMetricFamily("batchproof_caller_rows", "Rows charged to each caller.", labels=("caller",))
    for name, counts in callers.items():
        requests.add_metric([name, "admitted"], counts["requests"])
        requests.add_metric([name, "refused"], counts["refused"])
        rows.add_metric([name], counts["rows"])
    yield from (requests, rows)


def _journal(counts: Mapping[str, int]) -> Iterator[Metric]:
    """Give what became of the rows that the journal was to keep; nothing where there is none."""
    if not counts:
        return
    rows = CounterMetricFamily("batchproof_journal_rows", "Rows for the journal by outcome.", labels=("outcome",))
    for outcome in ("written", "dropped", "refused"):
        rows.add_metric([outcome], counts[f"{outcome}_rows"])
    yield rows
    yield CounterMetricFamily("batchproof_journal_failures", "Writes that the disk refused.", counts["failures"])
    yield CounterMetricFamily("batchproof_journal_segments", "Segments that were finished.", counts["segments"])
    uploads = CounterMetricFamily("batchproof_journal_uploads", "Uploads of segments by outcome.", labels=("outcome",))
    uploads.add_metric(["uploaded"], counts.get("uploads", 0))
    uploads.add_metric(["failed"], counts.get("upload_failures", 0))
    yield uploads
    restarts = counts.get("restarts", 0)
    yield CounterMetricFamily(
        "batchproof_journal_restarts", "Writing processes that ended and were replaced.", restarts
    )


def _spans(counts: Mapping[str, int]) -> Iterator[Metric]:
    """Give what became of the spans of traced requests; nothing where none are traced."""
    if not counts:
        return
    spans = CounterMetricFamily("batchproof_spans", "Spans of traced requests by outcome.", labels=("outcome",))
    for outcome in ("exported", "dropped", "failed"):
        spans.add_metric([outcome], counts[outcome])
    yield spans


def _runs(models: Models) -> Iterator[Metric]:
    sizes = HistogramMetricFamily("batchproof_run_rows", "Rows of a batch that ran together.", labels=MODEL)
    failed = CounterMetricFamily("batchproof_failed_runs", "Runs that the engine failed.", labels=MODEL)
    unreplied = CounterMetricFamily(
        "batchproof_failed_replies", "Replies that raised instead of reaching their caller.", labels=MODEL
    )
    audits = CounterMetricFamily("batchproof_audits", "Rows run again alone, by result.", labels=(*MODEL, "result"))
    saturated = CounterMetricFamily("batchproof_saturated_rows", "Rows beyond the range of exact grids.", labels=MODEL)
    for key, counts in models.items():
        queue, audit = counts.queue, counts.audit
        sizes.add_metric(key, _buckets(ROWS, queue["runs_by_rows"]), queue["rows"])
        failed.add_metric(key, queue["failed_runs"])
        unreplied.add_metric(key, queue["failed_replies"])
        saturated.add_metric(key, queue["saturated_rows"])
        if audit:
            audits.add_metric([*key, "same"], audit["looked"] - audit["violations"])
            audits.add_metric([*key, "different"], audit["violations"])
    yield from (sizes, failed, unreplied, saturated, audits)


def _events(events: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        "batchproof_events", "What should not happen in a service, by kind.", labels=("event",)
    )
    for name in EVENTS:
        family.add_metric([name], events.get(name, 0))
    return family


def _shadows(models: Models) -> Iterator[Metric]:
    labels = (*MODEL, "shadow")
    batches = CounterMetricFamily(
        "batchproof_shadow_batches",
        "Batches that were chosen for a comparison, by what came of it.",
        labels=(*labels, "outcome"),
    )
    changed = CounterMetricFamily(
        "batchproof_shadow_labels_changed", "Compared rows whose most probable class is another one.", labels=labels
    )
    differences = HistogramMetricFamily(
        "batchproof_shadow_difference",
        "Largest difference of a compared row's probabilities, or that of its value.",
        labels=labels,
    )
    for key, counts in models.items():
        for version, found in counts.shadows.items():
            labelled = [*key, version]
            batches.add_metric([*labelled, "compared"], found["batches"])
            batches.add_metric([*labelled, "dropped"], found["dropped"])
            batches.add_metric([*labelled, "failed"], found["failed"])
            changed.add_metric(labelled, found["labels_changed"])
            differences.add_metric(labelled, _buckets(DIFFERENCES, found["by_difference"]), found["sum_difference"])
    yield from (batches, changed, differences)


def _reloads(counts: Mapping[str, float]) -> Iterator[Metric]:
    family = CounterMetricFamily("batchproof_reload", "Changes of what is served, by outcome.", labels=("outcome",))
    for outcome in ("ok", "refused"):
        family.add_metric([outcome], counts.get(outcome, 0))
    yield family
    yield GaugeMetricFamily(
        "batchproof_reload_last_success_timestamp_seconds",
        "When what is served was last loaded or changed, in seconds since 1970.",
        counts.get("last_good_s", 0),
    )


def _stages(models: Models) -> Metric:
    spent = CounterMetricFamily(
        "batchproof_stage_seconds", "Seconds spent in each stage; queue sums over requests.", labels=(*MODEL, "stage")
    )
    for key, counts in models.items():
        sums = {stage: counts.summed(f"{stage}_s") for stage in ("decode", "encode")}
        sums |= {stage: counts.queue[f"{stage}_s"] for stage in ("queue", "run")}
        for stage in STAGES:
            spent.add_metric([*key, stage], sums[stage])
    return spent


def _with_exemplars(buckets: Sequence[tuple[str, float]], exemplars: Mapping[str, Any]) -> list[Any]:
    """Return the buckets, with a traced request in those that have one: see `Tally.exemplars`."""
    found: list[Any] = []
    for place, (end, count) in enumerate(buckets):
        example = exemplars.get(str(place))
        found.append((end, count) if example is None else (end, count, Exemplar(example[2], example[1], example[0])))
    return found


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    ends = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(ends, accumulate(counts), strict=True))
