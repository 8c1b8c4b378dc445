"""Build the image and run it locked down: as its own user and as root, on a read-only root, stopped by SIGTERM.

Then each hosting platform is played on it (platforms.py): its variables, argument, folder, paths, bodies and limits.

    python tests/image/container.py FOLDER_OF_BUILD_AND_RUN_SCRIPTS [BUILD OPTION …]

The two scripts, build_image.sh and run_image.sh, do without a Docker engine. Build options go to the builder: with
`--platform linux/arm64 --build-arg BASE=IMAGE` the image for ARM64 is built and run, by QEMU where the kernel was told to
(binfmt_misc). Every failing check raises AssertionError.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from platforms import JSON, MODELS, PLATFORMS, Platform, bodies

ROOT = Path(__file__).resolve().parents[2]
TAG = "localhost/batchproof:check"
BASE = "docker.io/library/python:3.11-slim-bookworm"
OWN_USER = "10001"
READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 30.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    kind: str
    body: bytes

    @property
    def predictions(self) -> list[Any]:
        """Return the predictions of JSON or of JSON Lines."""
        if self.kind == "application/jsonlines":
            return [json.loads(line) for line in self.body.splitlines()]
        return list(json.loads(self.body)["predictions"])


def main() -> None:
    """Build, then check each user."""
    scripts = Path(sys.argv[1]).resolve()
    subprocess.run(["bash", scripts / "build_image.sh", ROOT, TAG, *sys.argv[2:]], check=True, stdout=sys.stderr)
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
        rows = golden("golden.json")["rows"]
        compare_with_golden(ask(port, "/predict", 10, json.dumps({"rows": rows}).encode()))
        stop(process, f"user {user}")
    print(
        f"image as user {user}: ready in {ready_s:.2f} s (container set-up included), {len(rows)} golden rows answered"
    )


def check_platform(scripts: Path, platform: Platform) -> None:
    """Run the image as the platform does: probe, predict in all its forms, refuse, each in time, and stop in time."""
    port = platform.port or free_port()
    with tempfile.TemporaryDirectory() as empty:
        Path(empty).chmod(0o755)
        options = [option.format(port=port, empty=empty) for option in platform.options]
        with served(scripts, options) as process:
            wait_until_ready(process, port, platform.probes[0])
            check_answers(platform, port)
            stop(process, platform.name)
    paths = ", ".join((*platform.probes, platform.predict))
    print(f"image on {platform.name}: {paths} answered ({', '.join(platform.forms)}), left on SIGTERM")


def check_answers(platform: Platform, port: int) -> None:
    """Hold every probe, every form of the golden rows and one refusal to their answers and time limits."""
    for path in platform.probes:
        answer = ask(port, path, platform.probe_within_s)
        assert answer.status == 200, f"{platform.name}: GET {path} gave {answer.status}"
    names = [feature["name"] for feature in golden("bundle.json")["signature"]["inputs"]]
    known = bodies(names, golden("golden.json")["rows"])
    for form in platform.forms:
        kind, body = known[form]
        compare_with_golden(ask(port, platform.predict, platform.answer_within_s, body, kind))
    refused = ask(port, platform.predict, platform.answer_within_s, b'{"instances": [[1]]}')
    assert refused.status == 400, f"{platform.name}: a wrong row gave {refused.status}"
    assert "6" in json.loads(refused.body)[platform.refusal], f"{platform.name}: {refused.body!r} names no 6 features"


def stop(process: subprocess.Popen[bytes], whose: str) -> None:
    """Stop the image as platforms do and hold it to status 0."""
    process.send_signal(signal.SIGTERM)
    status = process.wait(STOPPED_WITHIN_S)
    assert status == 0, f"{whose}: exit status {status} after SIGTERM"


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


def golden(name: str) -> Any:
    """Return a file of the newest penguins bundle."""
    newest = max((MODELS / "penguins").iterdir(), key=lambda folder: int(folder.name))
    return json.loads((newest / name).read_text())


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


def compare_with_golden(answer: Answer) -> None:
    """Hold each probability of an answer to the golden rows' own, bit for bit: the bundle is exact."""
    assert answer.status == 200, f"status {answer.status}: {answer.body[:300]!r}"
    expected = memoryview(bytes.fromhex(golden("golden.json")["outputs"]["probabilities"]["hex"])).cast("f")
    got = [p for prediction in answer.predictions for p in prediction["probabilities"].values()]
    assert array("f", got) == array("f", expected)  # JSON has the shortest text of a float32


def ask(port: int, path: str, within_s: float, body: bytes | None = None, kind: str = JSON) -> Answer:
    """GET, or POST a body, and return the answer; it must be whole within the time."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": kind} if body else {})
    began_s = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=within_s) as response:
            answer = Answer(response.status, response.headers.get_content_type(), response.read())
    except urllib.error.HTTPError as error:
        answer = Answer(error.code, error.headers.get_content_type(), error.read())
    took_s = time.monotonic() - began_s
    assert took_s <= within_s, f"{path} took {took_s:.2f} s"
    return answer


if __name__ == "__main__":
    main()
