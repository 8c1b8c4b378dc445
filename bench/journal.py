"""The journal's cost, and its proof: load B with it beside without, and mixed requests that are replayed elsewhere.

    python -m bench.journal [--rounds 5] [--seconds 4] [--rows 1000000] [--parts hand-over load replay]

First the hand-over alone: one-row answers into a journal whose process writes them, in microseconds of the event loop.
Then three servers of the reference model stand side by side, without a journal, with `drop` and with `refuse`, and load B
visits them in turn, in another order each round, so that what else the machine does falls on all alike. Printed are
medians, and the server's CPU time an answer, which a busy machine changes less than the rate.

Then a server of the exact model gets `--rows` rows in requests of one row to thousands, of four protocols, with
`journal_full = refuse`. `batchproof replay` runs them again in other processes, with other threads and runs of other sizes;
each must find every bit equal.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

from batchproof.service.bundle import reader as bundles
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference.admission import Lane, Ticket
from batchproof.service.journal.entries import Source
from batchproof.service.journal.writing.chain import Counts, Options
from batchproof.service.journal.writing.recording import Journal, ModelJournal
from batchproof.service.protocols.head import ID_HEADER, RequestHead
from bench.bodies import own
from bench.contenders import serve
from bench.loads import LOADS, WORK, require_wrk, run
from bench.make_exact import write_exact
from bench.make_model import REFERENCE, rows_of, write_all
from bench.server import HOST, Running, started

ENTRIES, BATCH = 32_000, 32
PARTS = ("hand-over", "load", "replay")
WAYS = ((1, 512), (2, 100), (3, 4096))  # of replaying: engine threads, most rows of one run
SIZES = (1, 3, 1, 100, 1, 2000, 1, 700)  # rows of the requests, one after another


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn of load B")
    parser.add_argument("--rows", type=int, default=1_000_000, help="that are journalled and replayed")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles (default %(default)s)")
    chosen = parser.parse_args()
    require_wrk()
    if not (chosen.work / "peer.onnx").exists():
        write_all(chosen.work)
    if not (chosen.work / "exact").exists():
        write_exact(chosen.work)
    with tempfile.TemporaryDirectory(dir=chosen.work) as folder:
        if "hand-over" in chosen.parts:
            _hand_over(chosen.work / "reference", Path(folder) / "alone")
        if "load" in chosen.parts:
            _load_b(chosen.work / "reference", Path(folder), chosen.rounds, chosen.seconds)
        if "replay" in chosen.parts:
            _replays(chosen.work / "exact", Path(folder) / "mixed", chosen.rows)


def _hand_over(models: Path, folder: Path) -> None:
    """Print what a one-row answer costs the event loop, with the sending, in batches of BATCH requests."""
    manifest = bundles.read(next(models.glob("*/*"))).manifest
    outputs = {tensor.name: (tensor.dtype, tensor.width) for tensor in manifest.outputs}
    features = [(feature.name, feature.kind) for feature in manifest.signature.inputs]
    source = Source(manifest.name, manifest.version, manifest.sha256, features, outputs)
    arrays = Arrays(np.zeros((1, len(features))), None)
    ran = [{name: np.zeros((1, width), dtype) for name, (dtype, width) in outputs.items()}] * BATCH
    folder.mkdir()
    for full in ("drop", "refuse"):
        cost_us, counts = asyncio.run(_recorded(Options(folder, full), source, arrays, ran))
        lost = counts.dropped_rows + counts.refused_rows
        print(f"hand-over, {full}: {cost_us:.2f} us an answer; {lost} of {ENTRIES} lost", flush=True)


async def _recorded(
    options: Options, source: Source, arrays: Arrays, ran: list[dict[str, np.ndarray]]
) -> tuple[float, Counts]:
    """Return the event loop's time for each of ENTRIES answers in microseconds, and what became of them."""
    journal = Journal(options)
    model, lane = ModelJournal(journal, source, 1.0), Lane()
    taken_s = 0.0
    for number in range(0, ENTRIES, BATCH):
        heads = [
            RequestHead("POST", "/predict", b"", [(ID_HEADER, b"id-%d" % (number + place))]) for place in range(BATCH)
        ]
        tickets = [Ticket(arrays, 1, lane, 0.0, 0.0, 0.0, _no_reply) for _ in heads]
        made_s = time.thread_time()
        for ticket, head in zip(tickets, heads, strict=True):
            ticket.note = model.note(head, "native", 1)
        model.record(tickets, ran)
        taken_s += time.thread_time() - made_s
        await asyncio.sleep(0)
    await journal.empty()
    journal.close()
    return 1e6 * taken_s / ENTRIES, journal.counts


def _no_reply(_outputs: Outputs | None, _error: ServiceError | None) -> None:
    """Answer nobody."""


def _load_b(models: Path, folder: Path, rounds: int, seconds: float) -> None:
    """Print the rate and the CPU time of load B on each of the three servers."""
    request, plain = own(models)[LOADS["B"].request], serve(models, 1)
    flags = {
        "off": (),
        **{full: ("--journal", str(folder / full), "--journal-full", full) for full in ("drop", "refuse")},
    }
    rates: dict[str, list[float]] = {name: [] for name in flags}
    costs: dict[str, list[float]] = {name: [] for name in flags}
    tails: dict[str, list[float]] = {name: [] for name in flags}
    with ExitStack() as stack:
        servers: dict[str, Running] = {}
        for name, added in flags.items():
            launch = replace(plain, command=(*plain.command, *added))
            servers[name] = stack.enter_context(started(launch, request, folder / f"{name}.log"))
        for turn in range(rounds):
            for name in sorted(servers, reverse=turn % 2 == 1):
                before = servers[name].usage().cpu_s
                result = run(LOADS["B"], request, HOST, servers[name].port, seconds)
                answers = result.requests_per_s * (seconds + max(1, seconds / 4))  # with the warm-up
                rates[name].append(result.requests_per_s)
                tails[name].append(result.p99_ms)
                costs[name].append(1e6 * (servers[name].usage().cpu_s - before) / answers)
    usual = statistics.median(rates["off"])
    for name, own_rates in rates.items():
        rate = statistics.median(own_rates)
        print(
            f"load B, journal {name:6}: {rate:8,.0f} requests/s, {rate / usual:.2f} of off, CPU "
            f"{statistics.median(costs[name]):5.1f} us an answer, p99 {statistics.median(tails[name]):.1f} ms",
            flush=True,
        )


def _replays(models: Path, folder: Path, rows: int) -> None:
    """Journal mixed requests and replay them in other processes; ends with 1 where a bit differs."""
    launch = serve(models, 1)
    launch = replace(launch, command=(*launch.command, "--journal", str(folder), "--journal-full", "refuse"))
    with started(launch, own(models)["positional_1"], folder.with_suffix(".log")) as server:
        begun_s = time.perf_counter()
        requests, sent = _send(f"http://{HOST}:{server.port}", rows)
        print(f"{sent:,} rows in {requests:,} requests journalled in {time.perf_counter() - begun_s:.0f} s", flush=True)
    for threads, run_rows in WAYS:
        flags = ("--models", str(models), "--threads", str(threads), "--run-rows", str(run_rows), "--json")
        command = [sys.executable, "-m", "batchproof.service", "replay", str(folder), *flags]
        begun_s = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (result,) = json.loads(done.stdout)["results"]
        named = f"{threads} threads, runs of up to {run_rows} rows"
        print(
            f"replayed, {named}: {result['equal']:,} of {result['rows']:,} equal, {time.perf_counter() - begun_s:.0f} s"
        )
        if done.returncode or result["equal"] < sent:
            sys.exit(1)


def _send(url: str, rows: int) -> tuple[int, int]:
    """Send about `rows` rows by four protocols in turn; returns the requests and the rows."""
    requests = sent = 0
    names = [feature["name"] for feature in REFERENCE.features()]
    values = {size: rows_of(REFERENCE, size, size) for size in set(SIZES)}
    with httpx.Client(base_url=url, timeout=60) as client:
        while sent < rows:
            size = SIZES[requests % len(SIZES)]
            own_rows = values[size]
            kind = requests // len(SIZES) % 4
            if kind == 0:
                answer = client.post("/predict", json={"rows": own_rows})
            elif kind == 1:
                tensor = {"name": "features", "datatype": "FP64", "shape": [size, len(names)], "data": own_rows}
                answer = client.post(f"/v2/models/{REFERENCE.name}/infer", json={"inputs": [tensor]})
            elif kind == 2:
                answer = client.post(f"/v1/models/{REFERENCE.name}:predict", json={"instances": own_rows})
            else:
                answer = client.post("/predict", content=_csv(names, own_rows), headers={"Content-Type": "text/csv"})
            answer.raise_for_status()
            requests, sent = requests + 1, sent + size
    return requests, sent


def _csv(names: Sequence[str], rows: Sequence[Sequence[float | str]]) -> str:
    return "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)])


if __name__ == "__main__":
    main()
