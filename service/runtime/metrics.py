"""The counts behind /metrics. The hot path adds plain numbers; their text is made for each scrape.

Each (model, version, protocol) has one `Tally`. Each process writes a snapshot of its counts to a folder that all workers
share, once a second and when it ends; the worker that answers a scrape adds the snapshots. So a counter never falls
when a worker is replaced, and an answer costs the hot path about a microsecond and no lock.
"""

import os
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from batchproof.service.errors import SettingError

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
EXEMPLARS = "exemplars"  # in a snapshot: the one part that is not a sum
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class ModelKey(NamedTuple):
    """One version of one model."""

    name: str
    version: int


@dataclass(frozen=True)
class ModelCounts:
    """The counts of one version of one model, summed over workers."""

    queue: Mapping[str, Any]  # the fields of `Flow`
    audit: Mapping[str, int]  # `looked` and `violations`; empty where nothing is audited
    routes: Mapping[str, Mapping[str, Any]]  # by protocol, or "tables": the fields of `Tally`
    shadows: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # by the challenger's version: of `ShadowCounts`

    def summed(self, field: str) -> float:
        """Return a number of `Tally`, summed over the routes."""
        return float(sum(tally[field] for tally in self.routes.values()))


class Tally:
    """Counts of one model in one protocol."""

    COUNTS = ("cancelled_requests", "decode_s", "encode_s", "ok_requests", "ok_rows", "refusals", "seconds", "sum_s")
    __slots__ = (*COUNTS, "_exemplars")

    _exemplars: dict[str, Any]  # there as soon as a traced request is

    def __init__(self) -> None:
        """Start at zero."""
        self.ok_requests = 0
        self.ok_rows = 0
        self.decode_s = 0.0
        self.encode_s = 0.0
        self.sum_s = 0.0  # seconds from the whole request's arrival to its answer
        self.seconds = [0] * (len(SECONDS) + 1)  # answers by those seconds: not cumulative; the last is beyond all
        self.refusals: dict[str, int] = {}
        self.cancelled_requests = 0

    def answered(self, rows: int, encoding_s: float, started_s: float) -> None:
        """Count an answer whose encoding began at `encoding_s`; both times are of time.perf_counter."""
        now_s = time.perf_counter()
        total_s = now_s - started_s
        self.ok_requests += 1
        self.ok_rows += rows
        self.encode_s += now_s - encoding_s
        self.sum_s += total_s
        self.seconds[bisect_left(SECONDS, total_s)] += 1

    def exemplify(self, started_s: float, ids: Mapping[str, str]) -> None:
        """Name a traced request, answered now, as an example of those that take so long."""
        if not hasattr(self, "_exemplars"):
            self._exemplars = {}
        seconds = time.perf_counter() - started_s
        self._exemplars[str(bisect_left(SECONDS, seconds))] = [time.time(), seconds, dict(ids)]

    def exemplars(self) -> dict[str, Any]:
        """Return {number of the bucket: [time of the answer since 1970, seconds that it took, ids of its trace]}."""
        return dict(getattr(self, "_exemplars", {}))

    def refused(self, code: str) -> None:
        """Count a refusal by its code."""
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def cancelled(self) -> None:
        """Count a caller that went away before its answer."""
        self.cancelled_requests += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {name: getattr(self, name) for name in self.COUNTS}


class Flow:
    """Counts of one model's batcher, shared by all protocols."""

    __slots__ = (
        "cancelled_tickets",
        "failed_replies",
        "failed_runs",
        "late_tickets",
        "queue_s",
        "rows",
        "run_s",
        "runs_by_rows",
        "saturated_rows",
    )

    def __init__(self) -> None:
        """Start at zero."""
        self.rows = 0  # rows that ran
        self.run_s = 0.0
        self.queue_s = 0.0  # summed over the tickets that ran: from admission to the start of their run
        self.runs_by_rows = [0] * (len(ROWS) + 1)  # not cumulative; the last is beyond all
        self.late_tickets = 0
        self.cancelled_tickets = 0
        self.failed_runs = 0
        self.failed_replies = 0  # replies that raised: a fault of this program, never of a caller
        self.saturated_rows = 0  # of exact models: rows with a hidden value beyond the range of its grid

    def ran(self, rows: int, seconds: float) -> None:
        """Count one batch."""
        self.rows += rows
        self.run_s += seconds
        self.runs_by_rows[bisect_left(ROWS, rows)] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def as_plain(models: Mapping[ModelKey, ModelCounts]) -> dict[str, Any]:
    """Return the counts as JSON can hold them: {name: {version: {field: ...}}}."""
    plain: dict[str, Any] = {}
    for key, counts in models.items():
        plain.setdefault(key.name, {})[str(key.version)] = asdict(counts)
    return plain


def models_of(total: Mapping[str, Any]) -> dict[ModelKey, ModelCounts]:
    """Return the counts of each model in what `Counters.total` returns."""
    models = cast(Mapping[str, Mapping[str, Mapping[str, Any]]], total.get("models", {}))
    return {
        ModelKey(name, int(version)): ModelCounts(**counts)
        for name, versions in models.items()
        for version, counts in versions.items()
    }


def add(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of snapshots: numbers, lists by place, and mappings by key, as deep as they go."""
    total: dict[str, Any] = {}
    for snapshot in snapshots:
        for name, value in snapshot.items():
            if name == EXEMPLARS:
                total[name] = _newest(total.get(name, {}), value)
            elif name not in total:
                total[name] = add([value]) if isinstance(value, Mapping) else value
            elif isinstance(value, Mapping):
                total[name] = add([total[name], value])
            elif isinstance(value, list):
                total[name] = [one + other for one, other in zip(total[name], value, strict=True)]
            else:
                total[name] += value
    return total


def _newest(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the newest example of each bucket."""
    merged = {series: dict(buckets) for series, buckets in one.items()}
    for series, buckets in other.items():
        own = merged.setdefault(series, {})
        for bucket, example in buckets.items():
            own[bucket] = max(own.get(bucket, example), example, key=lambda found: found[0])
    return merged


SUPERVISOR = "supervisor.counts"  # the file of the process that serves nothing itself
SUFFIXES = (".json", ".counts")
EVENTS = ("unforeseen_errors", "failed_metric_writes", "workers_died", "workers_hung", "workers_not_started")


class Counters:
    """The counts of this process and, through a shared folder, of all workers since the service started."""

    def __init__(self, folder: Path | None, read: Callable[[], dict[str, Any]], name: str = "") -> None:
        """Read this process's counts with `read`; without a `folder` there are no other workers.

        `name` is that of this process's file, by default its id and start, as ids are used again.
        """
        self._name = name or f"{os.getpid()}-{started_ticks(os.getpid())}.json"
        self.events = dict.fromkeys(EVENTS, 0)
        self._folder = folder
        self._read = read

    def write(self) -> OSError | None:
        """Write this process's counts for the others, in one step; returns what prevented it, such as a full disk."""
        if self._folder is None:
            return None
        path = self._folder / self._name
        unfinished = path.with_suffix(".part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(orjson.dumps(self._own()))
            unfinished.replace(path)
        except OSError as error:
            self.events["failed_metric_writes"] += 1
            return error
        return None

    def total(self) -> dict[str, Any]:
        """Return the sum over all workers; gauges, such as queued rows, only of workers that live.

        This process's part is always there; other files that cannot be read are left out.
        """
        if self._folder is None:
            return add([self._own()])
        self.write()
        snapshots = [self._own()]
        for path in self._paths():
            try:
                snapshot = orjson.loads(path.read_bytes())
            except (OSError, orjson.JSONDecodeError):
                continue
            pid, _, started = path.stem.partition("-")
            if started_ticks(pid) != started:
                snapshot.pop("now", None)
            snapshots.append(snapshot)
        return add(snapshots)

    def _own(self) -> dict[str, Any]:
        return {**self._read(), "events": self.events}

    def _paths(self) -> list[Path]:
        assert self._folder is not None, "only a shared folder has files"
        try:
            return [path for path in self._folder.iterdir() if path.suffix in SUFFIXES and path.name != self._name]
        except OSError:
            return []


def started_ticks(pid: int | str) -> str:
    """Return when a process started, in clock ticks since the system did, and "none" where it is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "none"
    return stat.rpartition(")")[2].split()[19]


@contextmanager
def shared_folder(name: str) -> Iterator[Path]:
    """Give the folder `name` or, where it is empty, a temporary one; raises SettingError where none can be made."""
    if name:
        yield Path(name)
        return
    try:
        temporary = tempfile.TemporaryDirectory(prefix="batchproof-", ignore_cleanup_errors=True)
    except OSError as error:
        raise SettingError(
            f"Several workers share their counters in a folder, but there is no temporary one ({error.strerror}): "
            "set metrics_folder or TMPDIR to a folder that can be written, or workers to 1."
        ) from error
    with temporary as path:
        yield Path(path)
