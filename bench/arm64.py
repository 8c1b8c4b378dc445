"""onnxruntime for ARM64 on another processor: the wheel for aarch64 in a Python for arm64, run by QEMU.

    python -m bench.everywhere --rows 200 --arm64

QEMU 7.2 (Debian 12) ends with a segmentation fault in this wheel, on every processor that it emulates; 10.0 (Debian 13) runs it. So QEMU and
Python are unpacked from Debian 13, from the mirror that apt has here, into a folder of their own: nothing of this machine's packages, sources or
architectures changes. It needs apt-get and dpkg, not root; about 140 MB are downloaded once.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "arm64"
SUITE, PYTHON = "trixie", "3.13"  # Debian 13
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ("qemu-user:amd64", f"python{PYTHON}:arm64", "libstdc++6:arm64")
PROCESSORS = {
    "cortex-a72": "without SVE",
    "max": "with SVE2, BF16 and I8MM",
}  # of QEMU's list, and what onnxruntime finds there
INSIDE = """
import sys, json, numpy, onnxruntime
folder = sys.argv[1]
session = onnxruntime.InferenceSession(folder + "/model.onnx")
calls = json.load(open(folder + "/calls.json"))
feeds, found = numpy.load(folder + "/feeds.npz"), {}
for call in range(calls):
    given = {one.name: feeds[f"{call}/{one.name}"] for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    found.update({f"{call}/{name}": made for name, made in zip(names, session.run(names, given))})
numpy.savez(folder + "/found.npz", **found)
"""

Arrays = Mapping[str, np.ndarray]


class Arm64Error(Exception):
    """Why nothing can be run; one sentence."""


def prepare(folder: Path = FOLDER) -> Path:
    """Unpack QEMU, Python, NumPy and onnxruntime, the two of this environment's versions, into `folder` once; return it."""
    versions = {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__, "suite": SUITE}
    ready = folder / "ready.json"
    if ready.is_file() and json.loads(ready.read_text()) == versions:
        return folder
    ready.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    _unpack_packages(folder)
    _unpack_wheels(folder, [f"{name}=={versions[name]}" for name in ("numpy", "onnxruntime")])
    ready.write_text(json.dumps(versions))
    return folder


def outputs(folder: Path, processor: str, model: bytes, calls: Sequence[Arrays]) -> list[dict[str, np.ndarray]]:
    """Run the graph on the inputs of each call on an emulated processor; return the outputs of each."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "model.onnx").write_bytes(model)
        Path(scratch, "calls.json").write_text(str(len(calls)))
        feeds = {f"{call}/{name}": array for call, arrays in enumerate(calls) for name, array in arrays.items()}
        np.savez(Path(scratch, "feeds.npz"), **feeds)  # type: ignore[arg-type]  # its stub has no mapping
        emulator = [str(folder / "qemu-aarch64"), "-cpu", processor, "-L", str(folder / "root")]
        python = str(folder / "root" / "usr" / "bin" / f"python{PYTHON}")
        environment = {"PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        _run([*emulator, python, "-B", "-c", INSIDE, scratch], environment)
        with np.load(Path(scratch, "found.npz")) as found:
            made: list[dict[str, np.ndarray]] = [{} for _ in calls]
            for key in found.files:
                call, name = key.split("/", 1)
                made[int(call)][name] = found[key]
    return made


def _unpack_packages(folder: Path) -> None:
    """Unpack the packages and what they depend on: of QEMU the one program, the others into root/."""
    apt = folder / "apt"
    for part in ("state/lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "status").write_text("")
    sites = _run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian", "Component: main"]
    )
    (apt / "sources.list").write_text(f"deb [signed-by={KEYS}] {_mirror(sites)} {SUITE} main\n")
    options = {
        "APT::Architecture": "arm64",
        "Dir::State": f"{apt}/state",
        "Dir::State::status": f"{apt}/status",
        "Dir::Cache": f"{apt}/cache",
        "Dir::Etc::sourcelist": f"{apt}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    words += ["-o", "APT::Architectures::=arm64", "-o", "APT::Architectures::=amd64"]
    _run(["apt-get", *words, "-qq", "update"])
    _run(["apt-get", *words, "-qq", "install", "--download-only", "--yes", "--no-install-recommends", *PACKAGES])
    root = folder / "root"
    (root / "usr" / "lib").mkdir(parents=True, exist_ok=True)
    if not (root / "lib").is_symlink():
        (root / "lib").symlink_to("usr/lib")  # as base-files makes it when it is configured
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        if package.name.startswith("qemu-user_"):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:  # it holds an emulator of every processor, 450 MB
                _run(["dpkg-deb", "--extract", str(package), scratch])
                Path(scratch, "usr", "bin", "qemu-aarch64").replace(folder / "qemu-aarch64")
        elif not package.name.endswith("_amd64.deb"):
            _run(["dpkg-deb", "--extract", str(package), str(root)])
    shutil.rmtree(apt)


def _mirror(sites: str) -> str:
    """Return the mirror of Debian's own packages, among those that apt has."""
    for site in sites.split():
        if site.rstrip("/").endswith("/debian"):
            return site
    raise Arm64Error("apt has no mirror of Debian here; QEMU 10 and Python for arm64 are taken from one")


def _unpack_wheels(folder: Path, requirements: Sequence[str]) -> None:
    """Unpack wheels for aarch64 into site/."""
    platforms = [word for glibc in ("2_28", "2_27", "2_17") for word in ("--platform", f"manylinux_{glibc}_aarch64")]
    with tempfile.TemporaryDirectory() as wheels:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]
        _run([*pip, *platforms, "--python-version", PYTHON, "--dest", wheels, *requirements])
        for wheel in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(wheel) as files:
                files.extractall(folder / "site")


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints."""
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, **(environment or {})}
        )
    except FileNotFoundError:
        raise Arm64Error(f"{command[0]} is not here; Debian and Ubuntu have it") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing was printed"]
        raise Arm64Error(f"{Path(command[0]).name} ended with {done.returncode}: {said[-1]}")
    return done.stdout
