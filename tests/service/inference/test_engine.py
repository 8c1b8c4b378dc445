"""The engine's options, its refusals, and that nothing is left lying about."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.errors import EngineError
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference import engine
from batchproof.service.inference.engine import Engine, EngineOptions, cuda_options, provider_of, session_options
from tests.bundles import network, random_rows, signature_of

MODEL = network().model("m").SerializeToString()
ROWS = Encoder(signature_of()).encode_rows(random_rows(signature_of(), 20)).arrays


def pretend_providers(monkeypatch: pytest.MonkeyPatch, *providers: str) -> None:
    monkeypatch.setattr(engine.library(), "get_available_providers", lambda: list(providers))


def test_run_returns_every_output_by_name() -> None:
    """A run returns each output as the graph names it, one row for each row given."""
    outputs = Engine(MODEL).run(ROWS)
    assert {name: (array.dtype.name, array.shape) for name, array in outputs.items()} == {
        "probabilities": ("float32", (20, 3)),
        "scores": ("float32", (20, 3)),
    }


def test_ends_are_described() -> None:
    """Inputs and outputs are known by name, type and shape, whatever the graph."""
    loaded = Engine(MODEL, EngineOptions(device="cpu"))
    assert loaded.inputs == [("numeric", "float64", ["rows", 4]), ("categorical", "int64", ["rows", 3])]
    assert loaded.outputs[0] == ("probabilities", "float32", ["rows", 3])


def test_names_order_the_feeds() -> None:
    """Feeds go to the inputs in the order of the names given: any graph can be run."""
    turned = Engine(MODEL, names=("categorical", "numeric")).run((ROWS.categorical, ROWS.numeric))
    np.testing.assert_array_equal(turned["scores"], Engine(MODEL).run(ROWS)["scores"])


def test_description_says_what_made_the_bits() -> None:
    """Version, provider, device, threads, options and CPU features are all there."""
    options = EngineOptions(
        device="cpu", threads=2, optimisation="basic", entries=(("session.disable_prepacking", "1"),)
    )
    description = Engine(MODEL, options).description
    assert description["engine"].startswith("onnxruntime ")
    assert (description["provider"], description["device"]) == ("CPUExecutionProvider", "cpu")
    assert (description["threads"], description["optimisation"]) == (2, "basic")
    assert description["entries"] == {"session.disable_prepacking": "1"}
    assert set(description["cpu_features"]) <= set(engine.CPU_FEATURES)


def test_session_options_are_those_asked_for() -> None:
    """Threads, spinning, optimisation and further entries reach the session."""
    made = session_options(EngineOptions(threads=3, spin=True, optimisation="none", entries=(("session.x", "y"),)))
    assert (made.intra_op_num_threads, made.inter_op_num_threads) == (3, 1)
    assert made.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert made.get_session_config_entry("session.x") == "y"
    assert made.graph_optimization_level == engine.library().GraphOptimizationLevel.ORT_DISABLE_ALL
    assert made.use_deterministic_compute
    assert session_options(EngineOptions()).get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session_options(EngineOptions(threads=0)).intra_op_num_threads == len(os.sched_getaffinity(0))
    assert Engine(MODEL, EngineOptions(threads=0)).description["threads"] == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_cuda_keeps_its_precision(monkeypatch: pytest.MonkeyPatch, device: Any) -> None:
    """Where there is CUDA it is used, without TF32 and without kernels chosen by timing them."""
    pretend_providers(monkeypatch, "CUDAExecutionProvider", "CPUExecutionProvider")
    options = EngineOptions(device=device, gpu_bytes=123)
    assert provider_of(options) == ("CUDAExecutionProvider", cuda_options(options))
    assert cuda_options(options)["use_tf32"] == "0"
    assert cuda_options(options)["cudnn_conv_algo_search"] == "DEFAULT"
    assert cuda_options(options)["tunable_op_enable"] == "0"
    assert cuda_options(options)["gpu_mem_limit"] == "123"
    assert all(isinstance(value, str) for value in cuda_options(options).values())
    assert engine.CUDA_ENVIRONMENT["CUBLAS_EMULATE_DOUBLE_PRECISION"] == "0"


def test_cpu_is_used_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Device cpu means the CPU even where there is CUDA; auto means the CPU where there is none."""
    pretend_providers(monkeypatch, "CUDAExecutionProvider", "CPUExecutionProvider")
    assert provider_of(EngineOptions(device="cpu")) == ("CPUExecutionProvider", {})
    pretend_providers(monkeypatch, "CPUExecutionProvider")
    assert provider_of(EngineOptions(device="auto")) == ("CPUExecutionProvider", {})


def test_cuda_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for CUDA on an engine without it is one sentence that names the wheel."""
    pretend_providers(monkeypatch, "CPUExecutionProvider")
    with pytest.raises(EngineError, match=r"no CUDA: pip uninstall onnxruntime, then pip install 'onnxruntime-gpu>="):
        Engine(MODEL, EngineOptions(device="cuda"))


def test_cuda_that_falls_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the CUDA provider is listed but the session runs elsewhere, nothing is served in its name."""

    class FellBack:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    pretend_providers(monkeypatch, "CUDAExecutionProvider")
    monkeypatch.setattr(engine.library(), "InferenceSession", FellBack)
    for name in engine.CUDA_ENVIRONMENT:
        monkeypatch.setenv(name, "before")
    with pytest.raises(EngineError, match="could not start CUDAExecutionProvider"):
        Engine(MODEL, EngineOptions(device="cuda"))
    assert os.environ["CUBLAS_EMULATE_DOUBLE_PRECISION"] == "0"


def test_missing_wheel_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither wheel installed the refusal names both wheels."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install 'onnxruntime>=.*CUDA: pip install 'onnxruntime-gpu>="):
        Engine(MODEL)


@pytest.mark.parametrize("model", [b"", b"not a graph", MODEL[:-10], MODEL.replace(b"Softmax", b"Hardmox")])
def test_graph_that_does_not_load_is_an_engine_error(model: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes that are no graph, or name no operator, are an EngineError of one line, and print nothing."""
    with pytest.raises(EngineError) as caught:
        Engine(model)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_failing_run_never_changes_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that the provider fails is an EngineError, and is not tried again on another one with other bits."""
    loaded = Engine(MODEL)
    provider_failed = engine.library().capi.onnxruntime_pybind11_state.EPFail
    tried = []

    class Failing:
        def run(self, *_: Any) -> Any:
            tried.append(1)
            raise provider_failed("lost the device")

    monkeypatch.setattr(loaded, "_inner", Failing())
    with pytest.raises(EngineError, match="the engine failed: lost the device"):
        loaded.run(ROWS)
    assert tried == [1]


@pytest.mark.parametrize(
    "feeds",
    [
        Arrays(ROWS.numeric, None),
        Arrays(np.zeros((1, 5)), np.zeros((1, 3), np.int64)),
        Arrays(np.zeros((1, 4), np.float32), np.zeros((1, 3), np.int64)),
        Arrays(np.zeros((1, 4)), np.full((1, 3), 99)),
    ],
)
def test_failing_run_is_an_engine_error(feeds: Arrays, capfd: pytest.CaptureFixture[str]) -> None:
    """A missing input, a wrong width, type or code is an EngineError, and prints nothing."""
    with pytest.raises(EngineError, match="the engine failed"):
        Engine(MODEL).run(feeds)
    assert capfd.readouterr() == ("", "")


def test_threads_may_share_an_engine() -> None:
    """Runs from several threads at once give the bits that each gives alone."""
    loaded = Engine(MODEL)
    wanted = loaded.run(ROWS)["probabilities"].tobytes()
    found: list[bytes] = []

    def several() -> None:
        found.extend(loaded.run(ROWS)["probabilities"].tobytes() for _ in range(50))

    threads = [threading.Thread(target=several) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 200


def test_engine_leaves_no_files_and_imports_late(tmp_path: Path) -> None:
    """Importing the service's modules does not import onnxruntime, and running it writes nothing where it stands."""
    (tmp_path / "m.onnx").write_bytes(MODEL)
    code = (
        "import sys, batchproof.service.inference.catalogue.registry, batchproof.service.inference.engine\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "batchproof.service.inference.engine.Engine(open('m.onnx', 'rb').read())\n"
        "import os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "HOME": str(tmp_path)},
        check=True,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_hosts_without_cpuinfo_have_no_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the system does not list CPU features, the description has none instead of failing."""
    monkeypatch.setattr(engine, "Path", lambda _: tmp_path / "none")
    assert engine.cpu_features() == []


@pytest.mark.parametrize("arena", [True, False])
def test_an_arena_changes_no_bit(*, arena: bool) -> None:
    """Whether a session keeps its memory for the next run is a matter of memory alone."""
    options = EngineOptions(device="cpu", arena=arena)
    assert session_options(options).enable_cpu_mem_arena is arena
    outputs, usual = Engine(MODEL, options).run(ROWS), Engine(MODEL, EngineOptions(device="cpu")).run(ROWS)
    assert all(outputs[name].tobytes() == usual[name].tobytes() for name in usual)
