"""What one caller of one-row requests waits for, in turns with and without reloads."""

import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.connection import payload
from bench.reload.service import Service

PAUSE_S = 0.001  # between an answer and the next request
WRK_S = 600  # ended long before


class Half(NamedTuple):
    """The turns with reloads, or those without."""

    milliseconds: np.ndarray  # of each request
    reload_s: list[float]  # of each reload

    def describe(self) -> str:
        """Return the percentiles as a clause."""
        p50, p99, most = np.percentile(self.milliseconds, [50, 99, 100])
        reloads = f", {len(self.reload_s)} reloads of {np.median(self.reload_s):.2f} s" if self.reload_s else ""
        return f"{len(self.milliseconds)} requests, p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {most:.1f} ms{reloads}"


def first_row(bundle: Path) -> bytes:
    """Return the body of a request with the first golden row of a bundle."""
    return json.dumps({"rows": json.loads((bundle / "golden.json").read_bytes())["rows"][:1]}).encode()


def halves(service: Service, body: bytes, rounds: int, seconds: float) -> dict[bool, Half]:
    """Return what callers waited for, by whether the model was swapped at the time, back to back."""
    halves = {swapping: Half(np.empty(0), []) for swapping in (False, True)}
    for _ in range(rounds):
        for swapping, before in halves.items():
            more = _timed(service, body, seconds, swapping=swapping)
            joined = np.concatenate([before.milliseconds, more.milliseconds])
            halves[swapping] = Half(joined, before.reload_s + more.reload_s)
    return halves


@contextmanager
def company(service: Service, body: bytes, connections: int) -> Iterator[None]:
    """Keep so many further connections busy with the same request, from another process, while the block runs."""
    if not connections:
        yield
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        script = str(Path(__file__).parents[1] / "post.lua")
        options = ["-t1", f"-c{connections}", f"-d{WRK_S}s", "-s", script, f"{service.server.url}/predict"]
        command = ["wrk", *options, "--", file.name, "content-type: application/json"]
        wrk = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            wrk.kill()
            wrk.wait()


def _timed(service: Service, body: bytes, seconds: float, *, swapping: bool) -> Half:
    is_over, times, reloads = threading.Event(), list[float](), list[float]()
    raw = payload("POST", "/predict", {"Content-Type": "application/json"}, body)
    thread = threading.Thread(target=_call, args=(service, raw, is_over, times))
    thread.start()
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if swapping:
            reloads.append(service.swap())
        else:
            time.sleep(0.05)
    is_over.set()
    thread.join()
    return Half(np.array(times), reloads)


def _call(service: Service, raw: bytes, is_over: threading.Event, times: list[float]) -> None:
    address = (service.server.host, service.server.port)
    with socket.create_connection(address, timeout=30) as connection, connection.makefile("rb") as answers:
        while not is_over.is_set():
            began_s = time.perf_counter()
            connection.sendall(raw)
            status, size = answers.readline(), 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                size = int(value) if name.lower() == b"content-length" else size
            answers.read(size)
            if b" 200 " not in status:
                raise ConnectionError(f"the service answered {status!r}")
            times.append(1000 * (time.perf_counter() - began_s))
            time.sleep(PAUSE_S)
