"""How long the event loop makes others wait while one caller sends what is large.

    python -m bench.loop_pause [--workers 1 2] [--models reference mixed] [--only TEXT ...] [--times 3]

Each kind of body (tests/large_bodies.py) is sent on a connection of its own, one after another. Meanwhile two other
callers, in a process of their own, ask for `/health/live` and for a prediction of one row every few milliseconds. Printed
is the longest time that each of them waited. Both share the machine with the service, so a busy machine makes it longer.
The longest time that a thread of a worker kept the interpreter's lock (bench/held_lock.py) is nearly the same on any machine.
"""

import argparse
import contextlib
import http.client
import json
import math
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from bench.held_lock import OUTPUT
from bench.make_model import MIXED, REFERENCE, Shape, build, rows_of, write_bundle
from bench.server import free_port
from tests.large_bodies import RPC, Kinds, LargeBody
from tests.live import Live, start

PAUSE_S = 0.003  # between two questions
SETTLE_S = 0.3  # in which the service ends what it was at
CALM_S = 2.0
MOST_BYTES = 128 << 20  # 100 000 rows of objects have more than the 32 MiB that are the default


class Held:
    """How long the workers' threads kept the interpreter's lock, from the files that bench/held_lock.py writes."""

    def __init__(self, folder: Path) -> None:
        """Read the files of `folder`."""
        self._folder = folder
        self._seen: dict[Path, int] = {}

    def forget(self) -> None:
        """Begin anew."""
        self._seen = {path: path.stat().st_size for path in self._folder.iterdir()}

    def longest_ms(self) -> float:
        """Return the longest time since `forget`, in milliseconds of processor time."""
        texts = [path.read_text()[self._seen.get(path, 0) :] for path in self._folder.iterdir()]
        return max((float(line) for text in texts for line in text.split()), default=0.0)


@dataclass(frozen=True)
class Waits:
    """The longest time that an answer took, in milliseconds, and how many there were."""

    health_ms: float
    predict_ms: float
    answers: int


def probe(port: int, body: bytes, path: str, control: Connection) -> None:
    """Ask both questions again and again; send the longest waits whenever `control` asks."""
    longest = {"/health/live": 0.0, path: 0.0}
    count = [0]

    def ask(method: str, target: str, content: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            begun_s = time.perf_counter()
            connection.request(method, target, content, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            longest[target] = max(longest[target], time.perf_counter() - begun_s)
            count[0] += answer.status == 200
            time.sleep(PAUSE_S)

    for question in (("GET", "/health/live", b""), ("POST", path, body)):
        threading.Thread(target=ask, args=question, daemon=True).start()
    while control.poll(None) and control.recv():
        control.send(Waits(1e3 * longest["/health/live"], 1e3 * longest[path], count[0]))
        longest.update(dict.fromkeys(longest, 0.0))
        count[0] = 0


@contextlib.contextmanager
def probing(port: int, shape: Shape) -> Iterator[Connection]:
    """Run the two callers in a process of their own."""
    ours, theirs = multiprocessing.Pipe()
    body = json.dumps({"rows": rows_of(shape, 1, 3)}).encode()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=probe, args=(port, body, f"/models/{shape.name}/predict", theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def waits(control: Connection) -> Waits:
    """Return the longest waits since the last call."""
    control.send(True)
    found: Waits = control.recv()
    return found


def send(server: Live, rpc_port: int, body: LargeBody, data: bytes) -> str:
    """Send one body; returns the status of its answer."""
    if body.path == RPC:
        return _call(rpc_port, data)
    connection = http.client.HTTPConnection(server.host, server.port, timeout=120)
    try:
        connection.request("POST", body.path, data, dict(body.headers))
        answer = connection.getresponse()
        length = len(answer.read())
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()
    return f"{answer.status} {length / 1e6:.1f} MB"


def _call(port: int, data: bytes) -> str:
    import grpc

    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            return f"OK {len(method(data, timeout=120)) / 1e6:.1f} MB"
        except grpc.RpcError as error:
            return str(error.code().name)


def bodies(shape: Shape) -> Iterator[LargeBody]:
    """Yield every kind of body for a model."""
    names = [feature["name"] for feature in shape.features()]
    kinds = Kinds(shape.name, names, lambda count: rows_of(shape, count, 5))
    yield from kinds.good()
    if not shape.categorical:
        yield from kinds.numeric()
        yield from kinds.bad()


def measure(models: Path, workers: int, chosen: argparse.Namespace) -> list[float]:
    """Print a line for each kind of body; returns the longest wait of all, and the longest time of the lock."""
    worst_ms, rpc_port = [0.0, 0.0], free_port()
    flags = ("--workers", str(workers), "--grpc-port", str(rpc_port), "--default-model", REFERENCE.name)
    flags = (*flags, "--models", str(models), "--port", "0", "--max-body-bytes", str(MOST_BYTES))
    command = [sys.executable, "-m", "bench.held_lock", "serve", *flags]
    with tempfile.TemporaryDirectory() as notes, start(command, {OUTPUT: notes}) as server:
        held = Held(Path(notes))
        for shape in [shape for shape in (REFERENCE, MIXED) if shape.name in chosen.models]:
            with probing(server.port, shape) as control:
                time.sleep(1)
                waits(control)
                time.sleep(CALM_S)
                calm = waits(control)
                print(
                    f"{workers} workers, {shape.name}: quiet {calm.health_ms:.1f} {calm.predict_ms:.1f} ms", flush=True
                )
                for body in bodies(shape):
                    if any(text in body.name for text in chosen.only):
                        data = body.make()
                        worst_ms = list(
                            map(max, worst_ms, _measured(server, rpc_port, body, data, control, held, chosen.times))
                        )
    return worst_ms


def _measured(
    server: Live, rpc_port: int, body: LargeBody, data: bytes, control: Connection, held: Held, times: int
) -> tuple[float, float]:
    time.sleep(SETTLE_S)
    waits(control)
    taken_s, found, status = math.inf, [], ""
    held.forget()
    for _ in range(times):
        begun_s = time.perf_counter()
        status = send(server, rpc_port, body, data)
        taken_s = min(taken_s, time.perf_counter() - begun_s)
        time.sleep(SETTLE_S)
        found.append(waits(control))
    health_ms, predict_ms = max(each.health_ms for each in found), max(each.predict_ms for each in found)
    print(
        f"{body.name:36}{len(data) / 1e6:7.1f} MB  {status:20}{1e3 * taken_s:8.0f} ms   "
        f"lock {held.longest_ms():6.1f} ms   health {health_ms:7.1f} ms   predict {predict_ms:7.1f} ms",
        flush=True,
    )
    return max(health_ms, predict_ms), held.longest_ms()


def main(arguments: list[str]) -> None:
    """Measure each number of workers."""
    parser = argparse.ArgumentParser(prog="python -m bench.loop_pause", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--models", nargs="+", default=[REFERENCE.name, MIXED.name], choices=[REFERENCE.name, MIXED.name]
    )
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="kinds whose name holds one of these texts"
    )
    parser.add_argument("--times", type=int, default=3, help="how often each body is sent")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for shape in (REFERENCE, MIXED):
            write_bundle(shape, Path(folder), build(shape).SerializeToString())
        for workers in chosen.workers:
            wait_ms, held_ms = measure(Path(folder), workers, chosen)
            print(
                f"{workers} workers: nobody waited longer than {wait_ms:.0f} ms, and no thread kept the lock for {held_ms:.0f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
