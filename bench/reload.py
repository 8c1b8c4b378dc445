"""Swaps of a model under mixed load: every answer must be whole, and of the version that it names; what callers notice.

    python -m bench.reload --swaps 200 --workers 1

Callers of every protocol (native, Open Inference, KServe version 1, gRPC, tables, a table that is streamed slowly) go on
while a pin moves to and fro in the settings file. Each answer must be, byte for byte, what the version that it names
answered before the load began. Then one caller of one-row requests is timed, in turns with and without reloads.
"""

import argparse
import http.client
import json
import os
import queue
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np

from batchproof.service.server.grpc.messages import SERVICE, classes
from tests.bundles import NUMBERS, make_bundle
from tests.live import Live, free_port, live

NAME, ID = "numbers", "same"
ROWS = [[0.1, -0.2, 0.3, None, 0.5], [1.0, 0.9, -0.8, 0.7, -0.6], [0.0, 0.0, 0.0, 0.0, 0.25]]
PLAIN = [[0.1, -0.2, 0.3, 0.4, 0.5]]
CSV = "f0,f1,f2,f3,f4\n" + "".join(",".join("" if v is None else str(v) for v in row) + "\n" for row in ROWS)
HEADERS = {"X-Request-Id": ID}
PIECES, PIECE_S = 6, 0.04  # of the slow table


class OverloadedError(Exception):
    """The service is busy beyond its limits: the same request may come again."""


class Answer(NamedTuple):
    """One answer: the version that it names, None where the protocol has no place for it, and its bytes."""

    version: int | None
    body: bytes


@dataclass
class Findings:
    """What the callers saw."""

    answers: Counter[str] = field(default_factory=Counter)  # by kind
    wrong: list[str] = field(default_factory=list)
    overloaded: int = 0  # answered with 429, and asked again
    versions: Counter[int | None] = field(default_factory=Counter)


class HttpCaller:
    """One kind of request over one kept-alive connection."""

    def __init__(self, server: Live, path: str, body: Any, version_of: Callable[[Any, bytes], int | None]) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        self._path, self._body, self._version_of = path, body, version_of
        self.headers = dict(HEADERS)

    def ask(self) -> Answer:
        """Return the next answer; raises where it is none."""
        body = self._body() if callable(self._body) else self._body
        self._connection.request("POST", self._path, body, self.headers, encode_chunked=callable(self._body))
        reply = self._connection.getresponse()
        content = reply.read()
        if reply.status == 429:
            raise OverloadedError
        if reply.status != 200:
            raise ConnectionError(f"{reply.status}: {content[:200]!r}")
        return Answer(self._version_of(reply, content), content)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class RpcCaller:
    """Infer calls over one channel."""

    def __init__(self, port: int) -> None:
        self._messages = classes()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._call = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            self._messages["ModelInferRequest"].SerializeToString,
            self._messages["ModelInferResponse"].FromString,
        )
        values = np.array(PLAIN)
        self._request = self._messages["ModelInferRequest"](
            model_name=NAME,
            id=ID,
            inputs=[{"name": "features", "datatype": "FP64", "shape": list(values.shape)}],
            raw_input_contents=[values.tobytes()],
        )

    def ask(self) -> Answer:
        """Return the next answer."""
        try:
            reply = self._call(self._request, timeout=30.0, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise OverloadedError from error
            raise
        return Answer(int(reply.model_version), reply.SerializeToString(deterministic=True))

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


def callers(server: Live, rpc_port: int) -> dict[str, Any]:
    """Return one caller of each kind."""
    tensors = [{"name": "features", "datatype": "FP64", "shape": [1, 5], "data": PLAIN[0]}]
    made = {
        "native": HttpCaller(server, "/predict", json.dumps({"rows": ROWS}), _of_native),
        "oip": HttpCaller(server, f"/v2/models/{NAME}/infer", json.dumps({"id": ID, "inputs": tensors}), _of_oip),
        "v1": HttpCaller(server, f"/v1/models/{NAME}:predict", json.dumps({"instances": PLAIN}), lambda *_: None),
        "table": HttpCaller(server, "/predict", CSV, _of_header),
        "slow table": HttpCaller(server, "/predict", _slowly, _of_header),
        "grpc": RpcCaller(rpc_port),
    }
    for kind in ("table", "slow table"):
        made[kind].headers |= {"Content-Type": "text/csv"}
    made["slow table"].headers |= {"Transfer-Encoding": "chunked"}
    return made


def _slowly() -> Iterator[bytes]:
    lines = CSV.splitlines(keepends=True)
    yield lines[0].encode()
    for _ in range(PIECES):
        time.sleep(PIECE_S)
        yield "".join(lines[1:] * 200).encode()


def _of_native(_reply: Any, content: bytes) -> int:
    return int(json.loads(content)["model"]["version"])


def _of_oip(_reply: Any, content: bytes) -> int:
    return int(json.loads(content)["model_version"])


def _of_header(reply: Any, _content: bytes) -> int:
    return int(json.loads(reply.getheader("x-model"))["version"])


class Service:
    """A service whose one model is swapped by its pin."""

    def __init__(self, server: Live, file: Path) -> None:
        self.server, self._file = server, file
        self.version = 1  # that is served
        self.events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def swap(self) -> float:
        """Serve the other version and return the seconds until all workers do; raises where it is refused."""
        version = self.version = 3 - self.version
        self._file.write_text(f"pins = {{ {NAME} = {version} }}\n")
        began_s = time.monotonic()
        os.kill(self.server.process.pid, signal.SIGHUP)
        while (event := self.events.get(timeout=60))["event"] != "reloaded":
            if event["event"] == "reload_refused":
                raise RuntimeError(event["reason"])
        return time.monotonic() - began_s

    def memory_bytes(self) -> int:
        """Return what supervisor and workers hold privately."""
        pid = self.server.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_private_bytes(int(one)) for one in [pid, *children])

    def _read(self) -> None:
        assert self.server.process.stderr is not None
        with suppress(ValueError):  # the pipe is closed at the end
            for line in self.server.process.stderr:
                if line.startswith("{"):
                    self.events.put(json.loads(line))


def _private_bytes(pid: int) -> int:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))
    return 0


@contextmanager
def served(folder: Path, workers: int) -> Iterator[tuple[Service, int]]:
    """Serve two versions of one model, of which a pin chooses one; yields the service and its port of gRPC."""
    for version in (1, 2):
        make_bundle(folder / "models", NAME, version, seed=version, inputs=NUMBERS)
    file, port = folder / "settings.toml", free_port()
    file.write_text(f"pins = {{ {NAME} = 1 }}\n")
    flags = ("--settings", str(file), "--workers", str(workers), "--grpc-port", str(port))
    with live(folder / "models", *flags) as server:
        yield Service(server, file), port


def mixed(service: Service, rpc_port: int, swaps: int, least_requests: int = 0, each: int = 1) -> Findings:
    """Swap under the load of `each` callers of every kind, until there were so many swaps and requests."""
    expected: dict[str, dict[int, bytes]] = {}
    for _ in range(2):
        service.swap()
        for kind, caller in callers(service.server, rpc_port).items():
            expected.setdefault(kind, {})[service.version] = caller.ask().body
            caller.close()
    findings, is_over = Findings(), threading.Event()
    asking = [(kind, one) for _ in range(each) for kind, one in callers(service.server, rpc_port).items()]
    threads = [threading.Thread(target=_call, args=(*one, expected, findings, is_over)) for one in asking]
    for thread in threads:
        thread.start()
    done = 0
    while (done < swaps or sum(findings.answers.values()) < least_requests) and not findings.wrong:
        service.swap()
        done += 1
    is_over.set()
    for thread in threads:
        thread.join()
    return findings


def _call(
    kind: str, caller: Any, expected: dict[str, dict[int, bytes]], findings: Findings, is_over: threading.Event
) -> None:
    while not is_over.is_set():
        try:
            answer = caller.ask()
        except OverloadedError:
            findings.overloaded += 1
            time.sleep(0.1)
            continue
        except (OSError, http.client.HTTPException, grpc.RpcError) as error:
            findings.wrong.append(f"{kind}: {error!r}")
            return
        possible = expected[kind].values() if answer.version is None else [expected[kind][answer.version]]
        if answer.body not in possible:
            findings.wrong.append(f"{kind}: not what version {answer.version} answers: {answer.body[:200]!r}")
        findings.answers[kind] += 1
        findings.versions[answer.version] += 1
    caller.close()


def latencies(service: Service, seconds: float, *, swapping: bool) -> np.ndarray:
    """Return the milliseconds of one-row requests of one caller, 1 ms apart, while the model is swapped or not."""
    is_over, times = threading.Event(), []
    caller = HttpCaller(service.server, "/predict", json.dumps({"rows": PLAIN}), lambda *_: None)

    def call() -> None:
        while not is_over.is_set():
            began_s = time.perf_counter()
            with suppress(OverloadedError):
                caller.ask()
            times.append(1000 * (time.perf_counter() - began_s))
            time.sleep(0.001)

    thread = threading.Thread(target=call)
    thread.start()
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if swapping:
            service.swap()
        else:
            time.sleep(0.05)
    is_over.set()
    thread.join()
    caller.close()
    return np.array(times)


def main() -> None:
    """Print what the callers saw."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.reload", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--requests", type=int, default=20_000, help="least requests under the swaps")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of timing, each with and without reloads")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each half of a round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), options.workers) as (service, port):
        findings = mixed(service, port, options.swaps, options.requests)
        print(
            f"{sum(findings.answers.values())} answers, {len(findings.wrong)} wrong or failed, {findings.overloaded} asked again after 429: {dict(findings.answers)}"
        )
        print(*findings.wrong[:5], sep="\n")
        halves: dict[bool, list[np.ndarray]] = {False: [], True: []}
        for _ in range(options.rounds):
            for swapping in (False, True):
                halves[swapping].append(latencies(service, options.seconds, swapping=swapping))
        for swapping, parts in halves.items():
            joined = np.concatenate(parts)
            p50, p99 = np.percentile(joined, [50, 99])
            print(
                f"{'during' if swapping else 'without'} reloads: {len(joined)} requests, p50 {p50:.2f} ms, p99 {p99:.2f} ms"
            )
        for number in range(1, 101):
            service.swap()
            if number in (1, 10, 25, 50, 75, 100):
                print(f"after {number} more reloads: {service.memory_bytes() >> 20} MiB private in all processes")


if __name__ == "__main__":
    main()
