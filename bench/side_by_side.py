"""Services that run side by side, one of them asked at a time: what a variant costs is the CPU time of one request."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.loads import LOADS, SCRIPT, read
from bench.server import HOST, free_port, usage

START_S, STOP_S = 60, 30


@dataclass(frozen=True)
class Variant:
    """One way to serve and to ask."""

    name: str
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    scheme: str = "http"
    headers: tuple[str, ...] = ()


class Asked(NamedTuple):
    """What one load showed."""

    cpu_us: float  # of the service, for one request
    requests_per_s: float
    p99_ms: float


@contextlib.contextmanager
def served(variant: Variant, models: Path) -> Iterator[tuple[int, int]]:
    """Serve until the block ends; gives (port, process id)."""
    port = free_port()
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", str(port)]
    process = subprocess.Popen(
        [*command, *variant.flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **variant.environment},
    )
    try:
        end_s = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > end_s:
                sys.exit(f"the service {variant.name!r} did not start")
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(STOP_S)


def asked(variant: Variant, port: int, pid: int, load: str, body: Path, seconds: float) -> Asked:
    """Send a load of `bench.loads` with wrk; ends the program where a request was not answered well."""
    options = ["-t1", f"-c{LOADS[load].connections}", f"-d{round(seconds)}s", "-s", str(SCRIPT)]
    headers = ["Content-Type: application/json", *variant.headers]
    command = ["wrk", *options, f"{variant.scheme}://{HOST}:{port}/predict", "--", str(body), *headers]
    before_s = usage([pid]).cpu_s
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    used_s = usage([pid]).cpu_s - before_s
    result = read(done.stdout + done.stderr, 1)
    if result.refused or result.broken:
        sys.exit(f"{variant.name}: {result.refused} requests refused, {result.broken} broken")
    return Asked(used_s / (result.requests_per_s * seconds) * 1e6, result.requests_per_s, result.p99_ms)


def take_turns(
    compared: Mapping[str, tuple[Variant, int, int]], load: str, body: Path, rounds: int, seconds: float
) -> dict[str, list[Asked]]:
    """Ask each variant {name: (variant, port, process id)} once a round, in an order of chance; a first round warms up."""
    order = list(compared)
    taken: dict[str, list[Asked]] = {name: [] for name in compared}
    for place in range(rounds + 1):
        random.Random(place).shuffle(order)
        for name in order:
            figures = asked(*compared[name], load, body, seconds if place else 1)
            if place:
                taken[name].append(figures)
    return taken
