"""The journal's cost, and its proof: load B with it beside without, and mixed requests that are replayed elsewhere.

    python -m bench.journal [--rounds 5] [--seconds 4] [--workers 1] [--requests 1000000] [--parts process load replay]

First in process, without sockets: what a one-row answer costs the event loop's thread, which another load on the machine
changes less than a rate.
Then three servers of the reference model stand side by side, without a journal, with `drop` and with `refuse`, and load B
visits them in turn, in another order each round, so that what else the machine does falls on all alike. Printed are
medians: of the rates and of their ratios to the rate without a journal in the same round, and of the CPU time an answer;
and of all turns together, the rows that were written and the rows that were not.

Then a server of the exact model gets `--requests` requests of one row to thousands, of five protocols, with
`journal_full = refuse`. `batchproof replay` runs them again in other processes, with other threads and runs of other sizes;
each must find every bit equal. Refusals are printed by status and error code.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvloop

from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.serving import app as apps
from batchproof.service.server.serving.endpoint import PredictEndpoint
from bench.bodies import Request, own
from bench.contenders import serve
from bench.loads import LOADS, WORK, require_wrk, run
from bench.make_exact import write_exact
from bench.make_model import REFERENCE, rows_of, write_missing
from bench.server import HOST, Running, members, started, usage

BATCH, BATCHES, TURNS = 32, 20, 40  # requests at a time, one after another in a turn, turns
PARTS = ("process", "load", "replay")
WAYS = ((1, 512), (2, 100), (3, 4096))  # of replaying: engine threads, most rows of one run
SCRIPT = Path(__file__).with_name("mixed.lua")
WRITING = b"service.journal.writing"  # in the command of a writing process
POOL, CONNECTIONS = 1190, 32  # different requests, sent in turn
SIZES = (1, 1, 1, 2, 1, 1, 1, 3, 1, 1, 1, 1, 7, 1, 1, 1, 1)  # rows of the requests, one after another
FEW, LARGE_SIZES = 100, (100, 2000, 1, 700, 30, 1, 5000)  # of some more, one at a time and half of them tables


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn of load B")
    parser.add_argument("--requests", type=int, default=1_000_000, help="that are journalled and replayed")
    parser.add_argument("--workers", type=int, default=1, help="of each service under load B (default %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles (default %(default)s)")
    chosen = parser.parse_args()
    require_wrk()
    write_missing(chosen.work)
    if not (chosen.work / "exact").exists():
        write_exact(chosen.work)
    with tempfile.TemporaryDirectory(dir=chosen.work) as folder:
        if "process" in chosen.parts:
            _in_process(chosen.work / "reference", Path(folder) / "process")
        if "load" in chosen.parts:
            _load_b(chosen.work / "reference", Path(folder), chosen)
        if "replay" in chosen.parts:
            _replays(chosen.work / "exact", Path(folder) / "mixed", chosen.requests)


def _in_process(models: Path, folder: Path) -> None:
    """Print the event loop's time for a one-row answer, from its body to its reply, of BATCH requests a turn."""
    ways: dict[str, dict[str, Any]] = {
        "off": {},
        **{full: {"journal": str(folder / full), "journal_full": full} for full in ("drop", "refuse")},
    }
    services = {}
    for name, given in ways.items():
        settings = Settings(models=models, **given)
        services[name] = apps.load(settings, apps.take_snapshot(settings))
    body = json.dumps({"rows": rows_of(REFERENCE, 1, 1)}).encode()
    best = uvloop.run(_best_turns(services, body))
    for name, cost_us in best.items():
        print(
            f"in process, journal {name:6}: {cost_us:5.2f} us an answer, {best['off'] / cost_us:.2f} of off", flush=True
        )
    for service in services.values():
        service.close()


async def _best_turns(services: Mapping[str, apps.App], body: bytes) -> dict[str, float]:
    """Return the processor time of this thread for an answer, in microseconds: the median of the better half of the turns."""
    taken: dict[str, list[float]] = {name: [] for name in services}
    for _ in range(TURNS):
        for name, service in services.items():
            taken[name].append(await _turn(service.routes.endpoints["/predict"], body))
    return {name: statistics.median(sorted(costs)[: TURNS // 2]) for name, costs in taken.items()}


async def _turn(endpoint: PredictEndpoint, body: bytes) -> float:
    """Return the microseconds of an answer, over some batches one after another."""
    loop, answers = asyncio.get_running_loop(), []
    begun_s = time.thread_time()
    for _ in range(BATCHES):
        done, count = loop.create_future(), 0

        def reply(answer: Answer, done: "asyncio.Future[None]" = done) -> None:
            nonlocal count
            answers.append(answer.status)
            count += 1
            if count == BATCH:
                done.set_result(None)

        for _ in range(BATCH):
            endpoint.handle(body, RequestHead("POST", "/predict", b"", ()), reply)
        await done
    assert set(answers) == {200}
    return 1e6 * (time.thread_time() - begun_s) / (BATCH * BATCHES)


class Turn(NamedTuple):
    """What one turn of load B on one server came to."""

    rate: float
    service_us: float  # CPU of the service for an answer, without its writing processes
    writing_us: float  # of those
    p99_ms: float


def _load_b(models: Path, folder: Path, chosen: argparse.Namespace) -> None:
    """Print the rate and the CPU time of load B on each of the three servers."""
    request, plain = own(models)[LOADS["B"].request], serve(models, chosen.workers)
    flags = {
        "off": (),
        **{full: ("--journal", str(folder / full), "--journal-full", full) for full in ("drop", "refuse")},
    }
    turns: dict[str, list[Turn]] = {name: [] for name in flags}
    rows: dict[str, dict[str, int]] = {}
    with ExitStack() as stack:
        servers: dict[str, Running] = {}
        for name, added in flags.items():
            launch = replace(plain, command=(*plain.command, *added))
            servers[name] = stack.enter_context(started(launch, request, folder / f"{name}.log"))
        for number in range(chosen.rounds):
            for name in sorted(servers, reverse=number % 2 == 1):
                turns[name].append(_load_turn(servers[name], request, chosen.seconds))
        time.sleep(1)  # rows are counted once they are written
        for name, server in servers.items():
            rows[name] = _journalled(server.port)
    for name, taken in turns.items():
        rate, service_us, writing_us, p99_ms = map(statistics.median, zip(*taken, strict=True))
        pairs = zip(taken, turns["off"], strict=True)
        ratio = statistics.median(turn.rate / off.rate for turn, off in pairs)
        print(
            f"load B, journal {name:6}: {rate:8,.0f} requests/s, {ratio:.2f} of off, CPU {service_us:5.1f} us an answer "
            f"and {writing_us:4.1f} us of the writing process, p99 {p99_ms:.1f} ms",
            *[f", {number:,} rows {outcome}" for outcome, number in rows[name].items()],
            sep="",
            flush=True,
        )


def _load_turn(server: Running, request: Request, seconds: float) -> Turn:
    """Let load B visit a server."""
    before_s = _cpu_s(server)
    result = run(LOADS["B"], request, HOST, server.port, seconds)
    service_s, writing_s = (after - before for after, before in zip(_cpu_s(server), before_s, strict=True))
    answers = result.requests_per_s * (seconds + max(1, seconds / 4))  # with the warm-up
    return Turn(result.requests_per_s, 1e6 * service_s / answers, 1e6 * writing_s / answers, result.p99_ms)


def _cpu_s(server: Running) -> tuple[float, float]:
    """Return the CPU seconds so far of a service, and of its writing processes."""
    pids = members(server.mark)
    writing = [pid for pid in pids if WRITING in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return usage([pid for pid in pids if pid not in writing]).cpu_s, usage(writing).cpu_s


def _replays(models: Path, folder: Path, requests: int) -> None:
    """Journal mixed requests and replay them in other processes; ends with 1 where a bit differs."""
    launch = serve(models, 1)
    launch = replace(launch, command=(*launch.command, "--journal", str(folder), "--journal-full", "refuse"))
    with started(launch, own(models)["positional_1"], folder.with_suffix(".log")) as server:
        begun_s = time.perf_counter()
        answered, refusals = _send(f"http://{HOST}:{server.port}", requests)
        refused = refusals.total()
        rows = _journalled(server.port)["written"]
        seconds = time.perf_counter() - begun_s
        print(
            f"{answered:,} requests answered, {refused:,} refused, {rows:,} rows journalled in {seconds:.0f} s",
            flush=True,
        )
        for kind, number in refusals.most_common():
            print(f"  refused {number:,} times: {kind}", flush=True)
        if refused:
            print(*_errors(folder.with_suffix(".log")), sep="\n", flush=True)
    for threads, run_rows in WAYS:
        flags = ("--models", str(models), "--threads", str(threads), "--run-rows", str(run_rows), "--json")
        command = [sys.executable, "-m", "batchproof.service", "replay", str(folder), *flags]
        begun_s = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begun_s
        (result,) = json.loads(done.stdout)["results"]
        print(
            f"replayed, {threads} threads, runs of up to {run_rows} rows: {result['equal']:,} of {result['rows']:,} equal, "
            f"{seconds:.0f} s, {result['rows'] / seconds:,.0f} rows/s",
            flush=True,
        )
        if done.returncode or result["equal"] < rows:
            sys.exit(1)


def _send(url: str, requests: int) -> tuple[int, Counter[str]]:
    """Send mixed requests until so many are answered; returns how many were, and how many refusals of each kind came.

    A kind is a status, an error code and the first body that had them. Ends with 1 where connections break.
    """
    answered = 0
    refusals: Counter[str] = Counter()
    examples: dict[str, str] = {}
    with tempfile.NamedTemporaryFile() as file:
        for path, kind, body in _mixed(POOL, SIZES, tables=0):
            file.write(b"%b\n%b\n%d\n%b\n" % (path.encode(), kind.encode(), len(body), body))
        file.flush()
        while answered < requests:
            command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d10s", "--timeout", "30s", "-s", str(SCRIPT), url]
            done = subprocess.run([*command, "--", file.name], capture_output=True, text=True, check=False)
            found = re.search(r"^WRK (.*)$", done.stdout, re.MULTILINE)
            if found is None or (line := json.loads(found[1]))["broken"]:
                sys.exit(f"wrk: {done.stdout[-500:]}{done.stderr[-500:]}")
            answered += line["requests"] - line["refused"]
            for number, kind, example in re.findall(r"^REFUSED (\d+) (.*?): (.*)$", done.stdout, re.MULTILINE):
                refusals[f"{kind}, such as {examples.setdefault(kind, example)}"] += int(number)
    with httpx.Client(base_url=url, timeout=60) as client:
        for path, kind, body in _mixed(FEW, LARGE_SIZES, tables=2):
            response = client.post(path, content=body, headers={"Content-Type": kind})
            answered += response.is_success
            if not response.is_success:
                refusals[f"{response.status_code} {kind}, such as {response.text[:300]}"] += 1
    return answered, refusals


def _errors(log: Path) -> list[str]:
    """Return which events above a warning a server has logged, each kind once."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    kinds = {(line["event"], line.get("code", line.get("reason"))) for line in lines if line["level"] == "error"}
    return [f"  {name}: {why}" for name, why in sorted(kinds, key=str)]


def _journalled(port: int) -> dict[str, int]:
    """Return how many rows the server has written to its journal, and what became of others, by outcome."""
    metrics = httpx.get(f"http://{HOST}:{port}/metrics").text
    found = re.findall(r'batchproof_journal_rows_total\{outcome="(\w+)"\} (\S+)', metrics)
    return {outcome: int(float(number)) for outcome, number in found}


def _mixed(count: int, sizes: Sequence[int], *, tables: int) -> Iterator[tuple[str, str, bytes]]:
    """Give path, content type and body of requests by several protocols, each with rows of its own.

    One in `tables` is a table; 0: none is.
    """
    names = [feature["name"] for feature in REFERENCE.features()]
    for number in range(count):
        size = sizes[number % len(sizes)]
        rows = rows_of(REFERENCE, size, 1000 + number)
        tensor = {"name": "features", "datatype": "FP64", "shape": [size, len(names)], "data": rows}
        contents: list[tuple[str, Any]] = [
            ("/predict", {"rows": rows}),
            (f"/v2/models/{REFERENCE.name}/infer", {"inputs": [tensor]}),
            (f"/v1/models/{REFERENCE.name}:predict", {"instances": rows}),
            ("/invocations", {"instances": rows}),
        ]
        if tables and number % tables == 0:
            text = "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)])
            yield "/predict", "text/csv", text.encode()
            continue
        path, content = contents[number // len(sizes) % len(contents)]
        yield path, "application/json", json.dumps(content).encode()


if __name__ == "__main__":
    main()
