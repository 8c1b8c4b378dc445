"""The check finds what varies, cures what a fixed row count cures, refuses the rest, and can fail."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.engine import Engine, EngineOptions, cpu_features
from batchproof.service.inference.runner import Feeds, Runner
from batchproof.service.invariance import check as invariance
from batchproof.service.invariance import time_budget
from batchproof.service.invariance.check import Effort, bits_of, verify
from batchproof.service.invariance.probe_rows import draws_for
from batchproof.service.invariance.time_budget import TimeBudget
from batchproof.service.invariance.verdict import InvarianceError
from batchproof.training.preprocessing.onnx_graph import TensorProto
from tests.bundles import make_bundle, reseal
from tests.varying import (
    NO_PREPACKING,
    Stand,
    batch_mean,
    changes,
    elementwise,
    engine,
    linear,
    matmul_3d,
    rows_like,
)

QUICK = Effort(budget_s=0.0)  # the least: two draws, whatever they cost

# Graph, session entries, width, dtype. Each was seen to vary with the batch on x86-64 with AVX-512.
VARYING = {
    "prepacking disabled": (linear(), NO_PREPACKING, 32, np.float32),
    "Softplus": (elementwise("Softplus"), (), 3, np.float32),
    "Tanh of float64": (elementwise("Tanh", TensorProto.DOUBLE), (), 3, np.float64),
    "3-D MatMul": (matmul_3d(), (), 32, np.float32),
}


def test_clean_model_is_verified() -> None:
    """Where no bit depends on the batch, the model serves as it is, and the numbers add up."""
    runner = Runner(Stand(), 300)
    checked = verify([runner], rows_like(3), effort=QUICK)
    found = checked.verification

    assert (found.status, found.tile_rows, checked.runners) == ("verified", None, (runner,))
    assert found.as_dict()["rows"] == 80
    assert found.as_dict()["rows_changed"] == 0
    assert (
        found.as_dict()["rows_compared"] == found.attempts[0].compared > sum(range(1, 18)) + 3 * (32 + 64 + 128 + 256)
    )


@pytest.mark.parametrize("kind", VARYING)
def test_check_finds_what_varies(kind: str) -> None:
    """The check and a plain comparison of all rows agree; with AVX-512 each of these graphs does vary."""
    model, entries, width, dtype = VARYING[kind]
    draw = rows_like(width, dtype)
    runner = Runner(engine(model, entries), 64)
    (values,) = draw(0)
    varies = changes(runner, values, range(2, 34))
    found = verify([runner], draw, "report", effort=QUICK).verification

    assert found.status == ("reported" if varies else "verified")
    assert varies or "avx512f" not in cpu_features()


@pytest.mark.parametrize("kind", VARYING)
def test_fixed_row_count_cures(kind: str) -> None:
    """What is served after the fallback does not vary by the plain comparison either."""
    model, entries, width, dtype = VARYING[kind]
    draw = rows_like(width, dtype)
    checked = verify([Runner(engine(model, entries), 64)], draw, effort=QUICK)
    (runner,) = checked.runners
    (values,) = draw(0)

    assert not changes(runner, values, range(2, 34))
    assert checked.verification.status == "tiled" or "avx512f" not in cpu_features()
    assert runner.tile_rows == checked.verification.tile_rows


def test_batch_mean_is_refused() -> None:
    """A graph that leaks the mean of its batch is not ready; the sentence says what was tried."""
    with pytest.raises(InvarianceError) as refused:
        verify([Runner(engine(batch_mean()), 64)], rows_like(3), effort=QUICK)

    assert [attempt.tile_rows for attempt in refused.value.verification.attempts] == [None, 16, 32, 64]
    assert "every run padded to 64 rows" in str(refused.value)
    assert "output 'y'" in str(refused.value)


def test_position_dependence_is_refused() -> None:
    """A value that depends on the row's place in the run is found by rows alone in all they fill."""
    places = Stand(lambda x: np.arange(len(x), dtype=np.float32)[:, None] * 1e-6)

    with pytest.raises(InvarianceError):
        verify([Runner(places, 64)], rows_like(3), effort=QUICK)


@pytest.mark.parametrize("rows", [2, 5, 13, 17, 31, 33, 128, 257, 300])
def test_single_bad_size_is_found(rows: int) -> None:
    """A fault at one batch size alone, in one last place, is found and cured by the fixed row count."""
    bad = Stand(lambda x: np.spacing(2 * x) if len(x) == rows else np.float32(0))
    checked = verify([Runner(bad, 300)], rows_like(3), effort=QUICK)

    assert (checked.verification.status, checked.verification.tile_rows) == ("tiled", 16)
    assert checked.verification.attempts[0].ulps == {"y": 1}
    assert {one.batch_rows for one in checked.verification.attempts[0].sizes if one.changed} >= {rows}


def test_next_row_count_is_tried() -> None:
    """Where 16 rows do not cure it, 32 are tried, and serve."""
    small = Stand(lambda x: np.arange(len(x), dtype=np.float32)[:, None] if len(x) < 32 else np.float32(0))
    checked = verify([Runner(small, 64)], rows_like(3), effort=QUICK)

    assert checked.verification.tile_rows == checked.runners[0].tile_rows == checked.runners[0].run_rows == 32


def test_tile_policy_always_pads() -> None:
    """Under `tile` a model that needs no padding is padded too, and was only checked so."""
    found = verify([Runner(Stand(), 64)], rows_like(3), "tile", effort=QUICK).verification

    assert found.status == "tiled"
    assert [attempt.tile_rows for attempt in found.attempts] == [16]


def test_report_policy_serves_as_is() -> None:
    """Under `report` what varies serves unpadded and says so."""
    runner = Runner(engine(batch_mean()), 64)
    checked = verify([runner], rows_like(3), "report", effort=QUICK)

    assert (checked.runners, checked.verification.status) == ((runner,), "reported")
    assert checked.verification.as_dict()["rows_changed"] > 0


class Recorder:
    """An engine that keeps the rows of each run, as bytes, and the thread it was on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.runs: list[tuple[threading.Thread, list[bytes]]] = []

    def run(self, feeds: Feeds) -> Outputs:
        """Run, and keep."""
        self.runs.append((threading.current_thread(), rows_as_bytes(feeds)))
        return self.engine.run(feeds)


def rows_as_bytes(feeds: Feeds) -> list[bytes]:
    present = [array for array in feeds if array is not None]
    return [b"".join(array[row].tobytes() for array in present) for row in range(len(present[0]))]


def test_least_effort_covers_what_is_promised(tmp_path: Path) -> None:
    """However little time there is: every row alone and filling a batch; every size on workers, those to 65 here too.

    Each size from 8 has rows of every kind: golden ones, edges and random ones.
    """
    read = bundle.read(make_bundle(tmp_path))
    recorder = Recorder(Engine(read.model, EngineOptions(device="cpu")))
    draw = draws_for(read)
    found = verify([Runner(recorder, 300)], draw, effort=QUICK).verification
    first, later = (rows_as_bytes(draw(number)) for number in (0, 1))
    kinds = [set(first[:32]), set(first[32:]), set(later)]
    probes = set.union(*kinds)
    here = threading.current_thread()
    promised = {*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300}

    assert {rows[0] for _, rows in recorder.runs if len(rows) == 1} == probes
    assert {rows[0] for _, rows in recorder.runs if len(rows) > 1 and len(set(rows)) == 1} == probes
    assert {len(rows) for thread, rows in recorder.runs if thread is not here} == promised
    assert {len(rows) for thread, rows in recorder.runs if thread is here} == {size for size in promised if size <= 65}
    for size in (size for size in promised if size >= 8):
        seen = set.union(*(set(rows) for _, rows in recorder.runs if len(rows) == size and len(set(rows)) > 1))
        assert all(seen & kind for kind in kinds), size
    assert probes <= set.union(*(set(rows) for _, rows in recorder.runs if len(rows) == 300))
    # Every row of every batch was compared: whole batches, of each promised size and of 301 rows, which are cut.
    assert {one.batch_rows for one in found.attempts[0].sizes} == promised | {301}
    assert all(one.compared % one.batch_rows == 0 for one in found.attempts[0].sizes)


def test_probes_have_the_promised_values(tmp_path: Path) -> None:
    """Zeros of both signs, missing and unseen values, range ends and far values are among the rows of draw 0."""
    read = bundle.read(make_bundle(tmp_path))
    drawn = draws_for(read)(0)
    assert drawn.numeric is not None
    assert drawn.categorical is not None
    zeros = np.signbit(drawn.numeric[drawn.numeric == 0])

    assert {bool(sign) for sign in zeros} == {True, False}
    assert np.isnan(drawn.numeric).any()
    assert np.nanmax(np.abs(drawn.numeric)) == np.finfo(np.float64).max
    inputs = [feature for feature in read.manifest.signature.inputs if feature.kind == "categorical"]
    for column, feature in enumerate(inputs):
        assert len(feature.categories or ()) + 1 in drawn.categorical[:, column]


class Swapped(Runner):
    """A runner whose split exchanges the last two rows of batches of 40 rows or more."""

    def run(self, requests: Sequence[Feeds]) -> list[Outputs]:
        """Exchange them in the last request."""
        outputs = super().run(requests)
        if sum(len(one["y"]) for one in outputs) >= 40 and len(outputs[-1]["y"]) > 1:
            last = outputs[-1]["y"].copy()
            last[[-1, -2]] = last[[-2, -1]]
            outputs[-1] = {"y": last}
        return outputs


def test_fault_in_the_split_is_found() -> None:
    """Rows that change places between engine and caller are a difference, padded or not."""
    with pytest.raises(InvarianceError):
        verify([Swapped(Stand(), 128)], rows_like(3), effort=QUICK)


def test_sessions_must_agree() -> None:
    """Two sessions, each true to itself, that differ from each other by one last place are refused."""
    other = Stand(lambda x: np.spacing(2 * x))

    with pytest.raises(InvarianceError):
        verify([Runner(Stand(), 64), Runner(other, 64)], rows_like(3), effort=QUICK)


def test_worker_threads_must_agree() -> None:
    """A run that gives other bits on a worker thread, as after another rounding mode, is found."""
    main = threading.current_thread()
    elsewhere = Stand(lambda x: 0.0 * x if threading.current_thread() is main else np.spacing(2 * x))

    with pytest.raises(InvarianceError):
        verify([Runner(elsewhere, 64)], rows_like(3), effort=QUICK)


def test_rows_can_be_asked_for() -> None:
    """At least as many probe rows are compared as were asked for."""
    found = verify([Runner(Stand(), 32)], rows_like(3), effort=Effort(budget_s=0.0, rows=500)).verification

    assert 500 <= found.attempts[0].rows < 500 + 40


@pytest.mark.parametrize("threads", [1, 2])
def test_bundle_is_verified_through_its_runner(tmp_path: Path, threads: int) -> None:
    """A float32 bundle of Gemms is verified with the engine, the threads and the run size that serve."""
    read = bundle.read(make_bundle(tmp_path))
    runner = Runner(Engine(read.model, EngineOptions(device="cpu", threads=threads)), 128)
    served, found = invariance.for_bundles()(read, runner)
    told = json.loads(json.dumps(found.as_dict()))

    assert served is runner
    assert (told["status"], told["threads"], told["provider"]) == ("verified", threads, "CPUExecutionProvider")
    assert told["cpu_features"] == cpu_features()
    assert {"engine", "when", "seconds", "bits", "positions", "batch_sizes"} <= told.keys()


def test_pauses_change_nothing_that_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check with pauses sleeps after its runs, and finds in the same comparisons what one without finds."""
    pauses = list[float]()
    monkeypatch.setattr(time_budget.time, "sleep", pauses.append)
    read = bundle.read(make_bundle(tmp_path))
    runner = Runner(Engine(read.model, EngineOptions(device="cpu")), 64)
    checks = [invariance.for_bundles("require", QUICK, pause_factor=factor) for factor in (0.0, 3.0)]
    hurried, paced = (check(read, runner)[1] for check in checks)

    assert (paced.status, paced.bits, paced.attempts[0].sizes) == (
        hurried.status,
        hurried.bits,
        hurried.attempts[0].sizes,
    )
    assert len(pauses) > paced.attempts[0].rows


def test_certified_bundle_is_proved(tmp_path: Path) -> None:
    """With a certificate in the manifest and no difference on this host the verdict is `proved`."""
    folder = make_bundle(tmp_path, arithmetic="exact")
    reseal(folder, lambda content: content["arithmetic"].update(certificate={"gemms": 2}))
    read = bundle.read(folder)
    found = invariance.for_bundles()(read, Runner(Engine(read.model, EngineOptions(device="cpu")), 64))[1]

    assert found.status == "proved"


def test_bits_tell_hosts_apart() -> None:
    """The digest over outputs is the same for the same bits and another for a zero of the other sign."""
    zero, minus = ({"y": np.array([[value]])} for value in (0.0, -0.0))

    assert bits_of(zero) == bits_of({"y": np.array([[0.0]])}) != bits_of(minus)


def test_a_check_without_time_decides_nothing() -> None:
    """A check that ends before its least effort says that it is undecided, never that a model may serve."""
    with pytest.raises(InvarianceError) as caught:
        verify([Runner(Stand(), 32)], rows_like(3), effort=Effort(time=TimeBudget(0.0)))
    found = caught.value.verification
    assert (found.status, found.attempts[0].compared, found.attempts[0].is_complete) == ("undecided", 0, False)
