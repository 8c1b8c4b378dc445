"""Build the image and run it locked down: as its own user and as root, on a read-only root, stopped by SIGTERM.

Then each hosting platform is played on it: its variables, argument, folder and paths (PLATFORMS).

    python tests/image/container.py FOLDER_OF_BUILD_AND_RUN_SCRIPTS

The two scripts, build_image.sh and run_image.sh, do without a Docker engine. Every failing check raises AssertionError.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TAG = "localhost/batchproof:check"
BASE = "docker.io/library/python:3.11-slim-bookworm"
OWN_USER = "10001"
READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 30.0
MODELS = ROOT / "models"


class Platform(NamedTuple):
    """How a platform runs an image, and where it asks; `{port}` in an option stands for the port."""

    name: str
    options: tuple[str, ...]  # of run_image.sh
    health: str
    predict: str


PLATFORMS = (
    Platform(
        "Vertex AI",
        ("-e", "AIP_HTTP_PORT={port}", "-e", "AIP_HEALTH_ROUTE=/isalive", "-e", "AIP_PREDICT_ROUTE=/score-it"),
        "/isalive",
        "/score-it",
    ),
    Platform(
        "SageMaker",
        ("-e", "SAGEMAKER_BIND_TO_PORT={port}", "-v", f"{MODELS}:/opt/ml/model", "-u", "0", "--", "serve"),
        "/ping",
        "/invocations",
    ),
    Platform(
        "KServe",
        ("-e", "PORT={port}", "-v", f"{MODELS}:/mnt/models"),
        "/v2/health/ready",
        "/v1/models/penguins:predict",
    ),
)


def main() -> None:
    """Build, then check each user."""
    scripts = Path(sys.argv[1]).resolve()
    subprocess.run(["bash", scripts / "build_image.sh", ROOT, TAG], check=True, stdout=sys.stderr)
    print_sizes()
    check_contents()
    for user in (OWN_USER, "0"):
        check_user(scripts, user)
    for platform in PLATFORMS:
        check_platform(scripts, platform)


def print_sizes() -> None:
    """Print the size of the image and of its base."""
    listing = buildah("images", "--format", "{{.Name}}:{{.Tag}} {{.Size}}")
    sizes = [line for line in listing.splitlines() if line.startswith((TAG, BASE))]
    print("\n".join(f"image size: {line}" for line in sizes))


def check_contents() -> None:
    """Hold the image to what it must not have: torch and its kin, training, a compiler."""
    probe = (
        "import importlib.util, shutil, sys\n"
        "modules = ('torch', 'onnx', 'pandas', 'sklearn', 'training')\n"
        "found = [module for module in modules if importlib.util.find_spec(module)]\n"
        "found += [command for command in ('cc', 'gcc', 'g++', 'clang') if shutil.which(command)]\n"
        "sys.exit('the image holds ' + ', '.join(found) if found else None)\n"
    )
    container = buildah("from", "--pull=never", TAG).strip()
    try:
        buildah("run", container, "--", "python3", "-c", probe)
    finally:
        buildah("rm", container)


def buildah(*arguments: str) -> str:
    """Run buildah as the two scripts do and return what it printed."""
    environment = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    return subprocess.run(
        ["buildah", *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


def check_user(scripts: Path, user: str) -> None:
    """Serve as `user`, answer every golden row of the image's bundle, leave on SIGTERM with status 0."""
    began_s = time.monotonic()
    port = free_port()
    with served(scripts, ("-e", f"BATCHPROOF_PORT={port}", "-u", user)) as process:
        wait_until_ready(process, port, "/health/ready")
        ready_s = time.monotonic() - began_s
        rows = compare_with_golden(port)
        process.send_signal(signal.SIGTERM)
        status = process.wait(STOPPED_WITHIN_S)
        assert status == 0, f"user {user}: exit status {status} after SIGTERM"
    print(f"image as user {user}: ready in {ready_s:.2f} s (container set-up included), {rows} golden rows answered")


def check_platform(scripts: Path, platform: Platform) -> None:
    """Run the image as the platform does: probe, predict for instances, stop in time with status 0."""
    port = free_port()
    with served(scripts, [option.format(port=port) for option in platform.options]) as process:
        wait_until_ready(process, port, platform.health)
        golden = json.loads((newest_bundle() / "golden.json").read_text())
        answer = post(port, {"instances": golden["rows"]}, platform.predict)
        assert len(answer["predictions"]) == len(golden["rows"])
        process.send_signal(signal.SIGTERM)
        status = process.wait(STOPPED_WITHIN_S)
        assert status == 0, f"{platform.name}: exit status {status} after SIGTERM"
    print(f"image on {platform.name}: {platform.health} and {platform.predict} answered, left on SIGTERM")


@contextlib.contextmanager
def served(scripts: Path, options: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run the image's own entry point; told to stop on the way out where it is still there."""
    process = subprocess.Popen(["bash", scripts / "run_image.sh", TAG, *options])
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(STOPPED_WITHIN_S)


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def newest_bundle() -> Path:
    """Return the newest penguins bundle."""
    return max((MODELS / "penguins").iterdir(), key=lambda folder: int(folder.name))


def wait_until_ready(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    """Return when `path` answers 200; raises where the process ends or the time is up."""
    deadline_s = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, f"the image ended with status {process.returncode}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    raise AssertionError(f"not ready after {READY_WITHIN_S} s")


def compare_with_golden(port: int) -> int:
    """Post the golden rows of the newest penguins bundle and compare each probability; return how many rows."""
    golden = json.loads((newest_bundle() / "golden.json").read_text())
    expected = memoryview(bytes.fromhex(golden["outputs"]["probabilities"]["hex"])).cast("f")
    answer = post(port, {"rows": golden["rows"]})
    got = [p for prediction in answer["predictions"] for p in prediction["probabilities"].values()]
    assert len(got) == len(expected)
    assert all(abs(g - e) <= 1e-5 + 1e-5 * abs(e) for g, e in zip(got, expected, strict=True))
    return len(golden["rows"])


def post(port: int, body: dict[str, Any], path: str = "/predict") -> Any:
    """POST `body` and return the decoded answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


if __name__ == "__main__":
    main()
