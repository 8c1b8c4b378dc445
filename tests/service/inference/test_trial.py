"""Bundles whose graph does not bound its cost: they load after a trial in a child process, or are refused by a sentence."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from batchproof.service.bundle import reader
from batchproof.service.errors import BundleError, EngineError
from batchproof.service.inference import model, trial
from batchproof.service.inference.catalogue import registry
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.inference.trial import TrialLimits
from batchproof.service.invariance.check import for_bundles
from batchproof.service.runtime import child_process
from tests.bundles import make_bundle, reseal

LIMITS = TrialLimits(memory_bytes=256 << 20, seconds=10.0)
node = helper.make_node
Change = Callable[[onnx.GraphProto], None]


def load(folder: Path, limits: TrialLimits = LIMITS) -> Model:
    return model.load(reader.read(folder), EngineOptions("cpu"), 64, for_bundles(), limits)


def changed(folder: Path, change: Change) -> Path:
    """Rewrite the graph of a bundle, its nodes put in order, and seal it."""
    file = folder / "model.onnx"
    stored = onnx.load_model_from_string(file.read_bytes())
    change(stored.graph)
    known = {"", *(end.name for end in stored.graph.input), *(weight.name for weight in stored.graph.initializer)}
    left, ordered = list(stored.graph.node), []
    while left:
        ready = [one for one in left if known.issuperset(one.input)]
        assert ready, "the nodes make no circle"
        ordered += ready
        known.update(name for one in ready for name in one.output)
        left = [one for one in left if one not in ready]
    del stored.graph.node[:]
    stored.graph.node.extend(ordered)
    file.write_bytes(stored.SerializeToString())
    reseal(folder)
    return folder


def adding(*made: onnx.NodeProto, **constants: Any) -> Change:
    """Return a change that adds nodes; the last one's output `more`, one number, is added to the hidden layer."""

    def change(graph: onnx.GraphProto) -> None:
        graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
        graph.node.extend(made)
        hidden = next(one for one in graph.node if "hidden" in one.output)
        hidden.output[0] = "hidden_before"
        graph.node.append(node("Add", ["hidden_before", "more"], ["hidden"]))

    return change


def zeros(operator: str, inputs: list[str], **attributes: Any) -> list[onnx.NodeProto]:
    return [node(operator, inputs, ["big"], **attributes), node("ReduceMax", ["big"], ["more"], keepdims=0)]


ZERO = np.zeros(1, np.float32)
HUGE = np.array([1_000_000_000])
BOMBS: dict[str, Change] = {
    "ConstantOfShape": adding(*zeros("ConstantOfShape", ["size"]), size=HUGE),
    "Expand": adding(*zeros("Expand", ["zero", "size"]), zero=ZERO, size=HUGE),
    "Tile": adding(*zeros("Tile", ["zero", "size"]), zero=ZERO, size=HUGE),
    "Range": adding(*zeros("Range", ["a", "b", "d"]), a=np.float32(0), b=np.float32(1e9), d=np.float32(1)),
    "Pad": adding(*zeros("Pad", ["zero", "pads"]), zero=ZERO, pads=np.array([0, 1_000_000_000])),
    "Resize": adding(
        *zeros("Resize", ["zero", "", "scales"], mode="nearest"),
        zero=np.zeros((1, 1, 1, 1), np.float32),
        scales=np.array([1, 1, 30_000, 30_000], np.float32),
    ),
    "OneHot": adding(
        *zeros("OneHot", ["places", "depth", "values"]),
        places=np.array([0]),
        depth=HUGE,
        values=np.array([0, 0], np.float32),
    ),
    "Concat": adding(
        *(node("Concat", [f"c{step}"] * 2, [f"c{step + 1}"], axis=0) for step in range(30)),
        node("ReduceMax", ["c30"], ["more"], keepdims=0),
        c0=ZERO,
    ),
    "MatMul of a column and a row": adding(
        node("Unsqueeze", ["wide", "last"], ["column"]),
        node("Unsqueeze", ["wide", "first"], ["row"]),
        node("MatMul", ["column", "row"], ["big"]),
        node("ReduceMax", ["big"], ["more"], keepdims=0),
        wide=np.zeros(40_000, np.float32),
        last=np.array([1]),
        first=np.array([0]),
    ),
    "Add of a column and a row": adding(
        node("Reshape", ["wide", "tall"], ["column"]),
        node("Add", ["column", "wide"], ["big"]),
        node("ReduceMax", ["big"], ["more"], keepdims=0),
        wide=np.zeros(40_000, np.float32),
        tall=np.array([-1, 1]),
    ),
    "a tile a row": adding(
        node("Tile", ["hidden_before", "times"], ["big"]),
        node("ReduceMax", ["big"], ["more"], axes=[1]),
        times=np.array([1, 200_000]),
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_memory_bomb_is_refused(tmp_path: Path, name: str) -> None:
    """A graph that asks for gigabytes is one refusal, within seconds, and this process takes no part in it."""
    folder = changed(make_bundle(tmp_path), BOMBS[name])
    started_s = time.monotonic()
    with pytest.raises(BundleError, match=r"256 MiB of memory .*\(?the setting load_memory_bytes\)"):
        load(folder)
    assert time.monotonic() - started_s < 10


def test_tensor_beyond_all_memory_needs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file itself shows a tensor larger than the limit, the bundle is refused without a trial."""
    monkeypatch.delattr(child_process, "run")
    for name in ("Concat", "MatMul of a column and a row", "Add of a column and a row"):
        with pytest.raises(BundleError, match=r"a run of 64 rows has a tensor of .* MiB, more than the 256 MiB"):
            load(changed(make_bundle(tmp_path, name[:3]), BOMBS[name]))


def test_slow_graph_is_refused(tmp_path: Path) -> None:
    """A graph whose verification does not end in its time is one refusal that names the setting."""
    square = np.eye(512, dtype=np.float32)
    chain = [node("MatMul", [f"m{step}", "square"], [f"m{step + 1}"]) for step in range(1000)]
    wide = node("MatMul", ["hidden_before", "widening"], ["m0"])
    last = node("ReduceMax", ["m1000"], ["more"], axes=[1])
    slow = adding(wide, *chain, last, square=square, widening=np.zeros((16, 512), np.float32))
    with pytest.raises(BundleError, match=r"took more than 1 s \(the setting load_timeout_s\).*1e\+|operations"):
        load(changed(make_bundle(tmp_path), slow), TrialLimits(seconds=1.0))


def test_death_in_the_engine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the engine ends its process, that was the child's, and the bundle is refused."""
    folder = changed(make_bundle(tmp_path), adding(node("Mean", ["zero"], ["more"]), zero=ZERO))
    monkeypatch.setattr(model, "_load", die)
    with pytest.raises(BundleError, match=r"loading and verifying it ended the process \(SIGFPE\)"):
        load(folder)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGFPE)


def test_unusual_graph_loads_after_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of other operators is served after a trial; what the trial found wrong is the refusal's sentence."""
    folder = changed(make_bundle(tmp_path), adding(node("Mean", ["zero"], ["more"]), zero=ZERO))
    runs = []
    run = child_process.run

    def counting(*arguments: Any, **named: Any) -> str:
        runs.append(arguments)
        return run(*arguments, **named)

    monkeypatch.setattr(child_process, "run", counting)
    assert load(folder).fingerprint["invariance"] == "verified"
    assert len(runs) == 1
    with pytest.raises(BundleError, match="golden row 0 gives"):
        load(changed(make_bundle(tmp_path, "b"), adding(node("Mean", ["one"], ["more"]), one=np.ones(1, np.float32))))
    shifts = [
        node("ReduceMean", ["hidden_before"], ["some"], axes=[0, 1], keepdims=0),
        node("Mul", ["some", "tiny"], ["more"]),
    ]
    with pytest.raises(EngineError, match="rows' bits change with the batch"):
        load(changed(make_bundle(tmp_path, "c"), adding(*shifts, tiny=np.float32(1e-6))))
    assert len(runs) == 3


def test_trial_checks_without_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process has a check of its own, since its seconds are limited; here the other one decides."""
    bundle = reader.read(changed(make_bundle(tmp_path), adding(node("Mean", ["zero"], ["more"]), zero=ZERO)))
    tried = []
    monkeypatch.setattr(trial, "check", lambda *arguments, **_: tried.append(arguments[-1]))
    paced, hurried = for_bundles(pause_factor=1e-9), for_bundles()
    model.load(bundle, EngineOptions("cpu"), 64, paced, LIMITS, hurried)
    model.load(bundle, EngineOptions("cpu"), 64, hurried, LIMITS)
    assert tried == [hurried, hurried]


def test_ordinary_graph_needs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph as training writes it starts no process."""
    monkeypatch.delattr(child_process, "run")
    assert load(make_bundle(tmp_path)).fingerprint["invariance"] == "verified"


def test_many_nodes_need_a_trial(tmp_path: Path) -> None:
    """A graph of thousands of nodes, each of them cheap, is tried first."""
    chain = [node("Relu", [f"r{step}"], [f"r{step + 1}"]) for step in range(2500)]
    folder = changed(make_bundle(tmp_path), adding(*chain, node("Identity", ["r2500"], ["more"]), r0=ZERO))
    assert trial.reason(reader.read(folder), 64, LIMITS) == "its graph has 2521 nodes"


def test_bomb_beside_a_good_bundle(tmp_path: Path) -> None:
    """The good bundle of a folder is loaded, and the bomb beside it is refused by name."""
    make_bundle(tmp_path, "good")
    changed(make_bundle(tmp_path, "evil"), BOMBS["Tile"])

    def load_one(bundle: reader.Bundle) -> Model:
        return model.load(bundle, EngineOptions("cpu"), 64, for_bundles(), LIMITS)

    loaded = registry.load(tmp_path, load_one)
    assert list(loaded.models) == ["good"]
    assert [(refusal.name, refusal.version) for refusal in loaded.refusals] == [("evil", 1)]


def test_wide_runs_need_a_trial(tmp_path: Path) -> None:
    """A graph whose tensors of one run together pass what is trusted is tried first, though each of them is small."""
    wide = [node("Add", ["row", "tall"], [f"w{step}"]) for step in range(20)]
    last = [node("ReduceMax", ["w19"], ["more"], keepdims=0)]
    change = adding(*wide, *last, row=np.zeros((1, 2000), np.float32), tall=np.zeros((2000, 1), np.float32))
    why = trial.reason(reader.read(changed(make_bundle(tmp_path), change)), 64, LIMITS)
    assert re.fullmatch(r"a run of 64 rows has 3\d\d MiB of tensors", why)


@pytest.mark.parametrize(
    "error, outcome",
    [
        (None, ["", ""]),
        (BundleError("golden row 0 differs"), ["bundle", "golden row 0 differs"]),
        (EngineError("no such kernel"), ["engine", "no such kernel"]),
    ],
)
def test_the_child_reports_how_loading_ended(error: Exception | None, outcome: list[str]) -> None:
    """What the child sends is the kind of refusal and its sentence, or nothing where the bundle loads."""
    assert json.loads(trial._outcome(ending, error)) == outcome


@pytest.mark.parametrize("sign", trial.OUT_OF_MEMORY)
def test_an_engine_without_memory_is_a_memory_error(sign: str) -> None:
    """Each way in which the engine says that it got no memory counts as memory, not as a fault of the graph."""
    with pytest.raises(MemoryError):
        trial._outcome(ending, EngineError(f"the engine failed: {sign} 8 bytes"))


def ending(error: Exception | None) -> None:
    if error is not None:
        raise error
