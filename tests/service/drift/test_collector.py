"""Rows on their way from answers into windows: bounded, counted, apart from the event loop."""

import threading
import time

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.drift.collector import DriftCollector
from batchproof.service.drift.counts import count
from batchproof.service.drift.model_drift import ROUND_ROWS, ModelDrift
from batchproof.service.drift.windows import DriftReports, Windows, label
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.runtime.metrics import add
from tests.bundles import make_bundle

LENGTHS_S = (3600.0, 86400.0)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundle.read(make_bundle(tmp_path_factory.mktemp("models"), reference_rows=5000))


def rows(number: int) -> tuple[Arrays, Outputs, int]:
    arrays = Arrays(np.ones((number, 4)), np.zeros((number, 3), np.int64))
    return arrays, {"probabilities": np.full((number, 3), 1 / 3, np.float32)}, number


def counter(read: bundle.Bundle, share: float = 1.0) -> tuple[DriftCollector, ModelDrift]:
    collector = DriftCollector(share, LENGTHS_S)
    collector.wake = lambda: None  # type: ignore[method-assign]  # the test flushes
    model = collector.of(read.manifest, read.reference)
    assert model is not None
    return collector, model


def test_rows_are_counted_in_both_windows(read: bundle.Bundle) -> None:
    """Each row is in the running window of each length, feature by feature."""
    collector, model = counter(read)
    for number in (1, 3, 10):
        model.offer(*rows(number))
    collector.flush()
    assert (model.plain["counted"], model.plain["skipped"]) == (14, 0)
    for windows in model.plain["windows"].values():
        (counts,) = windows.values()
        assert counts["rows"] == 14
        assert sum(counts["cells"]) == 14 * 8  # seven features and the prediction


def test_rows_of_explanations_are_not_counted(read: bundle.Bundle) -> None:
    """What follows the caller's own rows is left out."""
    collector, model = counter(read)
    arrays, outputs, _ = rows(50)
    model.offer(arrays, outputs, 2)
    collector.flush()
    assert model.plain["counted"] == 2


def test_load_drops_rows_and_counts_them(read: bundle.Bundle) -> None:
    """Between two rounds no more rows wait than there is room for; the next round has room again."""
    collector, model = counter(read)
    for _ in range(ROUND_ROWS + 100):
        model.offer(*rows(1))
    assert model.skipped_rows == 100
    collector.flush()
    model.offer(*rows(1))
    collector.flush()
    assert model.plain["counted"] == ROUND_ROWS + 1
    assert model.plain["skipped"] == 100


def test_a_large_request_gives_evenly_spread_rows(read: bundle.Bundle) -> None:
    """Of a request beyond the room every k-th row is counted, to its end, and no view keeps the whole of it."""
    collector, model = counter(read)
    arrays, outputs, _ = rows(10_000)
    assert arrays.numeric is not None
    arrays.numeric[5000:, 1] = 7.0
    model.offer(arrays, outputs, 10_000)
    held = model._waiting[0][0].numeric
    assert held is not None
    assert held.base is None
    assert 0.4 < (held[:, 1] == 7.0).mean() < 0.6
    collector.flush()
    assert model.plain["counted"] + model.plain["skipped"] == 10_000
    assert ROUND_ROWS / 2 < model.plain["counted"] <= ROUND_ROWS


def test_a_share_of_the_requests_is_counted(read: bundle.Bundle) -> None:
    """With a share of a quarter, one request in four is counted, and the others are not passed over."""
    collector, model = counter(read, 0.25)
    for _ in range(100):
        model.offer(*rows(1))
    collector.flush()
    assert (model.plain["counted"], model.plain["skipped"]) == (25, 0)


def test_nothing_is_counted_without_statistics_or_share(read: bundle.Bundle) -> None:
    """A bundle without statistics, and a share of 0, cost nothing."""
    assert DriftCollector(1.0, LENGTHS_S).of(read.manifest, None) is None
    assert DriftCollector(0.0, LENGTHS_S).of(read.manifest, read.reference) is None


def test_the_thread_counts_by_itself_and_ends(read: bundle.Bundle) -> None:
    """The first row starts the thread, which counts soon; closing ends it."""
    collector = DriftCollector(1.0, LENGTHS_S)
    model = collector.of(read.manifest, read.reference)
    assert model is not None
    assert "drift" not in {thread.name for thread in threading.enumerate()}
    for _ in range(2):
        before = model.plain["counted"]
        model.offer(*rows(5))
        late_s = time.monotonic() + 20
        while model.plain["counted"] == before and time.monotonic() < late_s:
            time.sleep(0.01)
        assert model.plain["counted"] == before + 5
    collector.close()
    assert "drift" not in {thread.name for thread in threading.enumerate()}


def test_workers_counts_add_up(read: bundle.Bundle) -> None:
    """What two workers counted is one sum, and what a third of another bundle counted stays apart."""
    first, second = counter(read), counter(read)
    for collector, model in (first, second):
        model.offer(*rows(100))
        collector.flush()
    total = add([{"drift": first[0].counts()}, {"drift": second[0].counts()}])
    observed = first[0].observed(read.manifest, total)
    assert observed is not None
    assert observed.counted_rows == 200
    assert [window.running_rows for window in observed.windows] == [200, 200]
    other = read.manifest.model_copy(update={"sha256": "f" * 64})
    assert first[0].observed(other, total) is None


def test_a_window_is_reported_when_it_has_ended(read: bundle.Bundle) -> None:
    """The running window has no figures; a moment after its end it has, until the next one has ended."""
    _, model = counter(read)
    windows = Windows(model.layout, (3600.0,))
    arrays, outputs, _ = rows(2000)
    windows.add(count(model.layout, arrays, outputs), 7200.0 + 1)
    now_s = [7200.0 + 60]
    reports = DriftReports((3600.0,), lambda: now_s[0])
    plain = {"windows": windows.as_plain()}

    assert [(one.report, one.running_rows) for one in reports.of(model.layout, plain)] == [(None, 2000)]
    now_s[0] = 10800.0 + 1
    assert reports.of(model.layout, plain)[0].report is None
    now_s[0] = 10800.0 + 4
    (ended,) = reports.of(model.layout, plain)
    assert ended.report is not None
    assert ended.report.rows == 2000
    assert ended.as_dict()["from"] == "1970-01-01T02:00:00+00:00"
    assert reports.of(model.layout, plain)[0].report is ended.report
    now_s[0] = 14400.0 + 4
    assert reports.of(model.layout, plain)[0].report is None


def test_old_windows_are_forgotten(read: bundle.Bundle) -> None:
    """A worker keeps the running window and two before it."""
    _, model = counter(read)
    windows = Windows(model.layout, (3600.0,))
    for hour in range(5):
        windows.add(count(model.layout, *rows(1)[:2]), hour * 3600.0)
    assert list(windows.as_plain()["1h"]) == ["2", "3", "4"]
    assert windows.rows == 5


@pytest.mark.parametrize(
    "length_s, name", [(86400, "1d"), (604800, "7d"), (3600, "1h"), (900, "15m"), (90, "90s"), (1.5, "1.5s")]
)
def test_lengths_have_names(length_s: float, name: str) -> None:
    """A length is named by the largest unit that it is whole in."""
    assert label(length_s) == name


@pytest.mark.parametrize("is_before", [True, False])
def test_the_thread_ends_whenever_it_is_closed(monkeypatch: pytest.MonkeyPatch, *, is_before: bool) -> None:
    """Also between the end of its pause and the round: a service whose thread waits on would not end at SIGTERM."""
    collector = DriftCollector(1.0, (60.0,))

    class Closed(threading.Event):
        """Closes the collector while the thread pauses, before or after the pause has looked."""

        def wait(self, timeout: float | None = None) -> bool:
            if is_before:
                self.close()
            is_seen = super().wait(0.0)
            if not is_before:
                self.close()
            return is_seen

        def close(self) -> None:
            self.set()
            collector._has_rows.set()

    monkeypatch.setattr(collector, "_closing", Closed())
    collector.wake()
    thread = collector._thread
    assert thread is not None
    thread.join(10.0)
    assert not thread.is_alive()
    collector.close()
