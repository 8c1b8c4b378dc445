"""Counting, adding up over workers, and the text that Prometheus reads."""

import os
import re
import time
from pathlib import Path
from typing import Any

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.admission import Admission, Ticket
from batchproof.service.runtime.metrics import Counters, Flow, ModelCounts, ModelKey, Tally, add, as_plain, models_of
from batchproof.service.server.http.monitoring import prometheus as exposition
from tests.drifting import observed

FLOWERS = ModelKey("flowers", 1)


def counts() -> dict[str, Any]:
    """Return what a process that answered one request and refused two has counted."""
    tally, flow = Tally(), Flow()
    now_s = time.perf_counter()
    tally.answered(3, now_s, now_s - 0.003)
    tally.refused("overloaded")
    tally.refused("overloaded")
    tally.cancelled()
    flow.ran(3, 0.5)
    flow.queue_s = 0.25
    audits = {"looked": 4, "violations": 1}
    model = ModelCounts(flow.snapshot(), audits, {"native": tally.snapshot()})
    callers = {"ada": {"requests": 5, "refused": 1, "rows": 9}}
    journal = {"written_rows": 8, "dropped_rows": 2, "refused_rows": 0, "failures": 1, "segments": 3}
    return {
        "models": as_plain({FLOWERS: model}),
        "now": {"queue_rows": 7, "workers": 1},
        "callers": callers,
        "journal": journal,
        "spans": {"exported": 6, "dropped": 1, "failed": 0},
    }


MODELS = [{"model": "flowers", "version": "1", "sha256": "ab", "arithmetic": "float32", "engine": "x", "device": "cpu"}]


def test_sums_go_as_deep_as_the_counts() -> None:
    """Numbers, buckets and refusals are added; what one worker has alone is kept."""
    one, other = counts(), counts()
    other["models"]["flowers"]["1"]["routes"]["native"]["refusals"] = {"late": 1}
    iris = ModelCounts(Flow().snapshot(), {}, {"oip": Tally().snapshot()})
    other["models"] |= as_plain({ModelKey("iris", 2): iris})
    total = models_of(add([one, other]))
    native = total[FLOWERS].routes["native"]
    assert native["ok_rows"] == 6
    assert native["refusals"] == {"overloaded": 2, "late": 1}
    assert sum(native["seconds"]) == 2
    assert total[ModelKey("iris", 2)] == iris
    assert one["now"] == counts()["now"], "adding changes nothing that is added"
    assert one["models"]["flowers"]["1"]["routes"]["native"]["ok_rows"] == 3


def test_a_dead_workers_counts_stay_but_not_its_queue(tmp_path: Path) -> None:
    """Counters never fall when a worker ends; rows that it had queued are gone with it."""
    ended = Counters(tmp_path, counts)
    ended.write()
    (written,) = tmp_path.iterdir()
    written.rename(tmp_path / f"{os.getpid()}-1.json")  # a process whose id another one has by now
    total = Counters(tmp_path, counts).total()
    assert models_of(total)[FLOWERS].routes["native"]["ok_rows"] == 6
    assert total["now"] == {"queue_rows": 7, "workers": 1}


def test_one_process_needs_no_folder() -> None:
    """Without other workers nothing is written."""
    counters = Counters(None, counts)
    counters.write()
    assert counters.total()["now"]["workers"] == 1


def test_a_folder_that_takes_no_file_keeps_nothing_from_being_counted(tmp_path: Path) -> None:
    """A folder that is full, gone or no folder is a returned and counted error; this process's counts are there still."""
    (tmp_path / "file").write_text("")
    counters = Counters(tmp_path / "file", counts)
    assert isinstance(counters.write(), OSError)
    total = counters.total()
    assert total["now"]["workers"] == 1
    assert total["events"]["failed_metric_writes"] == 2


def test_a_damaged_file_of_another_worker_is_left_out(tmp_path: Path) -> None:
    """Half a file, as a full disk leaves it, is no reason to answer nothing."""
    (tmp_path / "1.json").write_bytes(b'{"models": {')
    assert Counters(tmp_path, counts).total()["now"]["workers"] == 1


def test_the_text_has_every_count() -> None:
    """Each family is there with its labels and value."""
    text = exposition.text(add([counts()]), MODELS).decode()
    for line in (
        'batchproof_requests_total{model="flowers",outcome="ok",route="native",version="1"} 1.0',
        'batchproof_requests_total{model="flowers",outcome="overloaded",route="native",version="1"} 2.0',
        'batchproof_requests_total{model="flowers",outcome="cancelled",route="native",version="1"} 1.0',
        'batchproof_rows_total{model="flowers",route="native",version="1"} 3.0',
        'batchproof_request_seconds_bucket{le="0.0025",model="flowers",route="native",version="1"} 0.0',
        'batchproof_request_seconds_bucket{le="0.005",model="flowers",route="native",version="1"} 1.0',
        'batchproof_request_seconds_bucket{le="+Inf",model="flowers",route="native",version="1"} 1.0',
        'batchproof_run_rows_bucket{le="4.0",model="flowers",version="1"} 1.0',
        'batchproof_run_rows_sum{model="flowers",version="1"} 3.0',
        'batchproof_stage_seconds_total{model="flowers",stage="run",version="1"} 0.5',
        'batchproof_stage_seconds_total{model="flowers",stage="queue",version="1"} 0.25',
        'batchproof_audits_total{model="flowers",result="different",version="1"} 1.0',
        'batchproof_audits_total{model="flowers",result="same",version="1"} 3.0',
        "batchproof_queue_rows 7.0",
        "batchproof_workers 1.0",
        'batchproof_failed_replies_total{model="flowers",version="1"} 0.0',
        'batchproof_events_total{event="workers_hung"} 0.0',
        'batchproof_caller_requests_total{caller="ada",outcome="admitted"} 5.0',
        'batchproof_caller_rows_total{caller="ada"} 9.0',
        'batchproof_journal_rows_total{outcome="dropped"} 2.0',
        "batchproof_journal_failures_total 1.0",
        "batchproof_journal_segments_total 3.0",
    ):
        assert line in text.splitlines()


def test_drift_is_shown_beside_its_thresholds() -> None:
    """Each figure of the last window has its threshold under the same labels, and a window without one has none."""
    text = exposition.text(add([counts()]), MODELS, {("flowers", "1"): observed()}).decode()
    for line in (
        'batchproof_drift_rows_total{model="flowers",outcome="counted",version="1"} 1241.0',
        'batchproof_drift_rows_total{model="flowers",outcome="skipped",version="1"} 30.0',
        'batchproof_drift_window_rows{model="flowers",version="1",window="1h"} 1234.0',
        'batchproof_drifted_features{model="flowers",version="1",window="1h"} 1.0',
        'batchproof_drift{feature="island",kind="unseen",model="flowers",version="1",window="1h"} 0.25',
        'batchproof_drift_threshold{feature="island",kind="unseen",model="flowers",version="1",window="1h"} 0.125',
        'batchproof_drift{feature="colour",kind="prediction",model="flowers",version="1",window="1h"} 0.5',
    ):
        assert line in text.splitlines()
    assert 'window="1d"' not in text


def test_the_page_names_exactly_the_metrics_that_exist(root: Path) -> None:
    """docs/metrics.md has every family and no other."""
    text = exposition.text(add([counts()]), MODELS, {("flowers", "1"): observed()}).decode()
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    page = (root / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(batchproof_\w+)`", page, re.MULTILINE)) == families


def test_admitted_rows_are_counted_back() -> None:
    """What enters and leaves sums to nothing."""
    admission = Admission(10)
    tickets = [
        Ticket(Arrays(None, None), rows, lane, 0.1 * rows, 0.0, 10.0, lambda *_: None)
        for rows, lane in ((3, admission.loop), (4, admission.thread))
    ]
    for ticket in tickets:
        admission.enter(ticket.rows, ticket.lane, ticket.work_s, ticket.timeout_s)
    assert (admission.queued_rows, admission.thread.waiting_s) == (7, 0.4)
    for ticket in tickets:
        admission.leave(ticket)
    assert (admission.queued_rows, admission.loop.waiting_s, admission.thread.waiting_s) == (0, 0.0, 0.0)
