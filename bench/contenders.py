"""What `python -m bench` compares: bare uvicorn's constant answer, Batchproof, and onnxruntime loops behind the generator."""

import compileall
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.bodies import Request
from bench.loads import LOADS
from bench.server import Attached, Launch

ROOT = Path(__file__).resolve().parent.parent
FLOOR = "uvicorn, constant answer"
LIMIT = "limit, onnxruntime loops"  # of so many processes
READ = ("C", "C-named", "D", "D-named")  # loads whose bodies loops may read
READING_LIMIT = "limit, reading loops"  # those that read JSON of several rows, too


@dataclass(frozen=True)
class Contender:
    """A server, and its request for each load that it can answer."""

    name: str
    workers: int
    launch: Launch | Attached
    requests: Mapping[str, Request]  # by the name of the load


def floor(requests: Mapping[str, Request]) -> Contender:
    """Return bare uvicorn with one worker, a constant answer and the bodies of `requests`: what HTTP alone costs."""
    uvicorn = (sys.executable, "-m", "uvicorn", "bench.constant:app", "--host", "127.0.0.1", "--port", "{port}")
    options = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
    chosen = {name: replace(request, expected=None) for name, request in by_load(requests).items()}
    return Contender(FLOOR, 1, Launch(uvicorn + options, folder=ROOT), chosen)


def limit(requests: Mapping[str, Request], model: Path, processes: int, *, reads: bool = False) -> Contender:
    """Return `processes` onnxruntime loops that the same generator feeds, and that do nothing else for an answer.

    Where they read, it is only for loads of several rows in native JSON.
    """
    command = [sys.executable, "-m", "bench.limit", str(model.resolve()), "{port}", str(processes)]
    chosen = {name: replace(request, expected=None) for name, request in by_load(requests).items()}
    if reads:
        command.append("read")
        chosen = {name: request for name, request in chosen.items() if name in READ}
    name = f"{READING_LIMIT if reads else LIMIT} in {processes} processes"
    return Contender(name, processes, Launch(tuple(command), {"OMP_NUM_THREADS": "1"}, ROOT), chosen)


def serve(models: Path, workers: int) -> Launch:
    """Return how this checkout's service is started, with its defaults, on the bundles under `models`.

    Its bytecode is made first, as an installation has it: where Python is told to write none, a checkout compiles the
    modules that were edited anew at every start.
    """
    compileall.compile_dir(ROOT / "service", quiet=1)
    command = (
        sys.executable,
        "-m",
        "batchproof.service",
        "serve",
        "--models",
        str(models.resolve()),
        "--host",
        "127.0.0.1",
    )
    return Launch((*command, "--port", "{port}", "--workers", str(workers)), folder=ROOT)


def batchproof(requests: Mapping[str, Request], models: Path, workers: int, label: str = "float32") -> Contender:
    """Return this checkout's service with the one bundle under `models`."""
    name = f"Batchproof {label}, {workers} worker{'s' if workers > 1 else ''}"
    return Contender(name, workers, serve(models, workers), by_load(requests))


def by_load(requests: Mapping[str, Request]) -> dict[str, Request]:
    """Return the request of every load that `requests` has one for."""
    return {name: requests[load.request] for name, load in LOADS.items() if load.request in requests}
