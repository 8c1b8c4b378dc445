"""Make one of the project's environments, and say what pip does meanwhile: `make` calls it, users need not.

    python3 constraints/install.py .venv-serve constraints/serving.txt cpu

Python and pip are all that it needs. An environment is ready when its file `ready` is there.
"""

import json
import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = re.compile(
    r"(Downloading|Using cached|Processing) (\S+?\.whl|\S+?\.tar\.gz)(?:\.metadata)? ?(?:\(([\d.]+) (\w+)\))?"
)
UNITS = {"bytes": 1e-6, "B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
CUDA_BUILD = """\
pip would fetch PyTorch's CUDA build here: several gigabytes of NVIDIA's libraries. The project's tests and `make train`
use the CPU only. Choose one:

  make {goal} TORCH_INDEX=ADDRESS   the CPU build, about 200 MB; ADDRESS is the index of CPU wheels that PyTorch's own
                                installation page shows (its command has it after --index-url)
  make {goal} CUDA=1                the CUDA build, as pip would
"""


def main(arguments: Sequence[str]) -> int:
    """Make the environment `arguments[0]` with the pins of `arguments[1]` and the extras that follow."""
    environment, constraints, *extras = arguments
    folder = Path(environment)
    python = str(folder / "bin" / "python")
    started_s = time.monotonic()
    pins = Path(constraints).read_text().count("==")
    print(f"Making {folder}/ once, with pip: Batchproof and at most {pins} packages ({', '.join(extras)}).", flush=True)
    venv.create(folder, with_pip=True)
    if "training" in extras and (code := torch(python, constraints)):
        return code
    flags = ["--constraint", constraints, "--editable", f".[{','.join(extras)}]"]
    code, megabytes = install(python, flags)
    if code == 0:
        (folder / "ready").touch()
        print(f"{folder}/ is ready: {megabytes:.0f} MB downloaded, {time.monotonic() - started_s:.0f} s.", flush=True)
    return code


def torch(python: str, constraints: str) -> int:
    """See to it that no CUDA build of torch comes unasked; returns an exit code, 0 to go on."""
    pin = next(line for line in Path(constraints).read_text().splitlines() if line.startswith("torch=="))
    if index := os.environ.get("TORCH_INDEX"):
        return install(python, ["--index-url", index, "--no-deps", pin])[0]
    if os.environ.get("CUDA") == "1" or not brings_cuda(python, pin):
        return 0
    question = CUDA_BUILD.format(goal=os.environ.get("GOAL") or "test")
    print(question, file=sys.stderr, end="", flush=True)
    return 2


def brings_cuda(python: str, pin: str) -> bool:
    """Ask pip, which reads the metadata, whether the torch that it would install needs NVIDIA's libraries."""
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--report", "-", pin]
    asked = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return asked.returncode == 0 and needs_cuda(json.loads(asked.stdout))


def needs_cuda(report: dict[str, list[dict[str, dict[str, list[str]]]]]) -> bool:
    """Return whether a package of pip's report requires one of NVIDIA's for this platform."""
    needed = [name for item in report["install"] for name in item["metadata"].get("requires_dist", [])]
    return any(re.match(r"(nvidia|cuda)[-_]", name) and "extra ==" not in name for name in needed)


def install(python: str, flags: Sequence[str]) -> tuple[int, float]:
    """Run pip and print one line for each file it fetches; returns its exit code and the megabytes downloaded."""
    command = [python, "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as pip:
        assert pip.stdout is not None, "it was asked for"
        megabytes = sum(shown(pip.stdout))
    return pip.returncode, megabytes


def shown(lines: Iterator[str]) -> Iterator[float]:
    """Print what happens in pip's lines; yields the megabytes of each file that was downloaded."""
    for line in lines:
        if found := FILE.search(line):
            if ".metadata" in line:
                continue
            name = found[2].rpartition("/")[2].split("-cp3")[0].split("-py")[0]
            size = float(found[3]) * UNITS.get(found[4], 0.0) if found[3] else 0.0
            print(f"  {name}" + (f"  {found[3]} {found[4]}" if found[3] else ""), flush=True)
            yield size if found[1] == "Downloading" else 0.0
        elif line.startswith(("Installing collected", "ERROR", "error")):
            print(f"  {'installing' if line.startswith('Inst') else line.rstrip()}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
