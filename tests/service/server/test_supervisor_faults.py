"""Workers that hang or die, a supervisor that is killed, a folder that changes: what the rest of the service does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from batchproof.service.errors import STARTUP_FAILED
from tests.bundles import make_bundle
from tests.http_client import ask
from tests.live import ROOT, Live, free_port, live

ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": None, "adult": True, "grade": 1, "owned": None}
BODY = {"rows": [ROW]}


def workers_of(server: Live) -> list[int]:
    """Return the process ids of the workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def until_event(server: Live, name: str) -> dict[str, Any]:
    """Return the next event of that name."""
    assert server.process.stderr is not None
    for line in server.process.stderr:
        content: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        if content.get("event") == name:
            return content
    raise AssertionError(f"the service ended without {name}")


def until_gone(pids: list[int], most_s: float = 20.0) -> list[int]:
    """Wait until no process is left, and return those that are."""
    end_s = time.monotonic() + most_s
    while time.monotonic() < end_s and (left := [pid for pid in pids if is_alive(pid)]):
        time.sleep(0.02)
    return left


def is_alive(pid: int) -> bool:
    """Return whether the process runs: one that is dead and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder with one small model."""
    make_bundle(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def server(models: Path) -> Iterator[Live]:
    """Serve it with two workers, which hang after one second of silence."""
    with live(models, "--workers", "2", "--heartbeat-s", "1") as found:
        until_event(found, "ready")
        yield found


def test_callers_of_a_worker_that_hangs_get_their_answer_from_another(server: Live) -> None:
    """One of two workers is stopped: every new caller is answered, the worker is killed and replaced, and both are logged."""
    victim = workers_of(server)[0]
    os.kill(victim, signal.SIGSTOP)
    with ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(lambda _: ask(server, "POST", "/predict", BODY).status, range(32)))
    assert statuses == [200] * 32
    hung = until_event(server, "worker_hung")
    assert (hung["level"], hung["pid"]) == ("error", victim)
    assert until_event(server, "worker_replaced")["exit_code"] == -signal.SIGKILL
    until_event(server, "ready")
    assert len(workers_of(server)) == 2


def test_callers_wait_while_every_worker_hangs(server: Live) -> None:
    """Both workers are stopped: callers wait for those that take their place, and no connection is closed on them."""
    for pid in workers_of(server):
        os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: ask(server, "POST", "/predict", BODY).status, range(8)))
    assert statuses == [200] * 8


def test_a_stop_of_the_whole_service_is_no_hang(server: Live) -> None:
    """Where every process stood still, as in a container that was paused, nobody is killed when they go on."""
    pids = [server.process.pid, *workers_of(server)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2.5)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    time.sleep(1.5)
    assert workers_of(server) == pids[1:]
    assert ask(server, "POST", "/predict", BODY).status == 200


def test_callers_wait_when_every_worker_is_killed_at_once(server: Live) -> None:
    """Both workers are killed: the next callers are answered by those that take their place."""
    for pid in workers_of(server):
        os.kill(pid, signal.SIGKILL)
    assert [ask(server, "POST", "/predict", BODY).status for _ in range(10)] == [200] * 10


@pytest.mark.parametrize("attempt", range(3))
def test_no_worker_outlives_a_killed_supervisor(models: Path, attempt: int) -> None:
    """The supervisor is killed while connections come and go: every worker ends by itself."""
    port = free_port()
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", str(port)]
    with subprocess.Popen(
        [*command, "--workers", "2", "--log-format", "json"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    ) as process:
        found = Live("127.0.0.1", port, process)
        for _ in range(2):
            until_event(found, "ready")
        is_over = threading.Event()

        def call() -> None:
            while not is_over.is_set():
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        connection.recv(1000)
                except OSError:
                    continue

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        time.sleep(0.2 + 0.05 * attempt)
        workers = workers_of(found)
        process.kill()
        left = until_gone(workers)
        is_over.set()
        for caller in callers:
            caller.join()
    assert len(workers) == 2
    assert not left


LIFELINE = """
import os, signal, sys, time
from batchproof.service.server.workers.lifeline import Lifeline
lifeline = Lifeline()
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as if its event loop hung
    lifeline.adopt()
    if sys.argv[1] == "serving":
        lifeline.watch(0.2)
    time.sleep(60)
print(pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("phase", ["loading", "serving"])
def test_a_worker_that_hangs_does_not_outlive_its_supervisor_either(phase: str) -> None:
    """A worker that does not react to being asked to stop, or still loads, ends all the same with its supervisor."""
    with subprocess.Popen(
        [sys.executable, "-c", LIFELINE, phase], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as supervisor:
        assert supervisor.stdout is not None
        worker = int(supervisor.stdout.readline())
        assert is_alive(worker)
        supervisor.kill()
        assert not until_gone([worker])


def remove(models: Path) -> None:
    models.rename(models.with_name("elsewhere"))


def damage(models: Path) -> None:
    (models / "flowers" / "1" / "model.onnx").write_bytes(b"")


def add_version(models: Path) -> None:
    make_bundle(models, version=2, seed=7)


def add_model(models: Path) -> None:
    make_bundle(models, name="others")


def exchange(models: Path) -> None:
    shutil.rmtree(models / "flowers" / "1")
    make_bundle(models, seed=7)


@pytest.mark.parametrize("change", [remove, damage, add_version, add_model, exchange])
def test_a_replacement_serves_what_was_served(server: Live, models: Path, change: Any) -> None:
    """Whatever happens to the folder, a worker that takes a dead one's place serves the versions and checksums of the start."""
    before = {json.dumps(ask(server, "POST", "/predict", BODY).content["model"], sort_keys=True) for _ in range(4)}
    change(models)
    for pid in workers_of(server):
        os.kill(pid, signal.SIGKILL)
        until_event(server, "ready")
    after = {json.dumps(ask(server, "POST", "/predict", BODY).content["model"], sort_keys=True) for _ in range(8)}
    assert before == after
    assert len(after) == 1


def test_a_worker_that_cannot_be_replaced_leaves_the_rest_serving(models: Path, tmp_path: Path) -> None:
    """A replacement that cannot start is logged and tried again later; callers are answered, and it starts when it can."""
    folder = tmp_path / "counters"
    with live(models, "--workers", "2", "--metrics-folder", str(folder)) as server:
        until_event(server, "ready")
        folder.rename(tmp_path / "aside")
        folder.write_text("")  # in which no worker can leave its bits
        os.kill(workers_of(server)[0], signal.SIGKILL)
        assert until_event(server, "worker_not_started")["exit_code"] == STARTUP_FAILED
        assert [ask(server, "POST", "/predict", BODY).status for _ in range(4)] == [200] * 4
        folder.unlink()
        until_event(server, "ready")
        assert len(workers_of(server)) == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_of_two_services_on_one_port_the_second_says_so(models: Path, workers: str) -> None:
    """Two services started together: one serves, the other ends with exit code 3 and one sentence."""
    port = str(free_port())
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", port]
    both = [
        subprocess.Popen([*command, "--workers", workers], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT)
        for _ in range(2)
    ]  # fmt: skip
    try:
        end_s = time.monotonic() + 30
        while all(process.poll() is None for process in both) and time.monotonic() < end_s:
            time.sleep(0.05)
        (loser,) = [process for process in both if process.poll() is not None]
        (winner,) = [process for process in both if process is not loser]
        assert loser.returncode == STARTUP_FAILED
        _, errors = loser.communicate()
        assert [line for line in errors.splitlines() if not line.startswith("{")] == [
            f"batchproof: Cannot listen on 127.0.0.1 port {port}: Address already in use."
        ]
        until_event(Live("127.0.0.1", int(port), winner), "ready")
        assert ask(Live("127.0.0.1", int(port), winner), "POST", "/predict", BODY).status == 200
    finally:
        for process in both:
            process.terminate()
            process.communicate(timeout=30)


def test_of_two_services_on_one_port_of_grpc_the_second_says_so(models: Path) -> None:
    """Workers share the port of gRPC among themselves, and with no other service, however close the two are started."""
    port = str(free_port())
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", "0"]
    both = [
        subprocess.Popen([*command, "--workers", "2", "--grpc-port", port], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT)
        for _ in range(2)
    ]  # fmt: skip
    try:
        end_s = time.monotonic() + 30
        while all(process.poll() is None for process in both) and time.monotonic() < end_s:
            time.sleep(0.05)
        (loser,) = [process for process in both if process.poll() is not None]
        assert loser.returncode == STARTUP_FAILED
        _, errors = loser.communicate()
        assert f"batchproof: Cannot listen on 127.0.0.1 port {port}: Address already in use." in errors.splitlines()
    finally:
        for process in both:
            process.terminate()
            process.communicate(timeout=30)
