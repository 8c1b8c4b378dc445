"""The script that makes environments: what it says of pip's work, and that no CUDA build comes unasked."""

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CPU = {"install": [{"metadata": {"requires_dist": ["sympy>=1.13", 'nvidia-ml-py; extra == "gpu"']}}]}
CUDA = {
    "install": [{"metadata": {"requires_dist": ["sympy>=1.13", "nvidia-cublas==13.0; platform_system == 'Linux'"]}}]
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Load constraints/install.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "constraints" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_file_is_one_line(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file that pip fetches is printed with its size, metadata is not, and downloads are added up."""
    lines = [
        "Collecting numpy==2.4.6",
        "  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (60 kB)",
        "  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (16.5 MB)",
        "Using cached idna-3.20-py3-none-any.whl (70 kB)",
        "Processing /wheels/torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "Downloading h11-0.16.0-py3-none-any.whl (500 kB)",
        "Installing collected packages: idna, numpy",
    ]
    assert sum(script.shown(iter(lines))) == pytest.approx(17.0)
    assert capsys.readouterr().out.splitlines() == [
        "  numpy-2.4.6  16.5 MB",
        "  idna-3.20  70 kB",
        "  torch-2.13.0%2Bcpu",
        "  h11-0.16.0  500 kB",
        "  installing",
    ]


@pytest.mark.parametrize(("report", "cuda"), [(CPU, False), (CUDA, True), ({"install": []}, False)])
def test_a_cuda_build_is_known_by_what_it_requires(script: ModuleType, report: Any, *, cuda: bool) -> None:
    """A build of torch that requires NVIDIA's libraries on this platform is a CUDA build; extras do not count."""
    assert script.needs_cuda(report) is cuda


@pytest.mark.parametrize(("environment", "code"), [({}, 2), ({"CUDA": "1"}, 0), ({"TORCH_INDEX": "file:///wheels"}, 0)])
def test_a_cuda_build_is_asked_for_first(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    code: int,
) -> None:
    """Where pip would fetch the CUDA build, make stops with both ways on; CUDA=1 or TORCH_INDEX= goes on."""
    calls = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, json.dumps(CUDA))

    def install(_: str, flags: list[str]) -> tuple[int, float]:
        calls.append(flags)
        return 0, 0.0

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(script, "install", install)
    for name in ("CUDA", "TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "GOAL": "train"}.items():
        monkeypatch.setenv(name, value)

    assert script.torch("python", str(ROOT / "constraints" / "all.txt")) == code
    asked = capsys.readouterr().err
    assert ("make train TORCH_INDEX=" in asked and "make train CUDA=1" in asked) is (code == 2)
    assert calls == (
        [["--index-url", "file:///wheels", "--no-deps", calls[0][-1]]] if "TORCH_INDEX" in environment else []
    )
