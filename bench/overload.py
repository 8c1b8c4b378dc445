"""Overload: 2, 5 and 10 times what saturates the service, and calm between, in one uninterrupted open loop.

    python -m bench.overload --work build/bench

The generator shares the machine with the server. So that it can offer ten times the saturating load, the requests are
few and dear: 32 rows each of the model `heavy`, sixty times the arithmetic of the reference model, on one worker.
Refusing such a request still means reading its 10 kB of JSON. The saturating load is what a closed loop of 16
connections reaches just before. Callers are independent (Poisson), never wait for one another, and give up after 1 s.
"""

import argparse
import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench import chart, loads, open_loop
from bench.bodies import native
from bench.chart import Plot, Series
from bench.connection import payload
from bench.contenders import serve
from bench.loads import WORK, Load
from bench.make_model import HEAVY, write_missing
from bench.open_loop import Sent
from bench.server import HOST, Running, started

ROWS = 32  # a request
DEADLINE_S = 1.0
FACTORS = (2.0, 5.0, 10.0)
CALM = 0.5  # of the saturating load
CONNECTIONS = 1024  # more than the service admits and refuses at once: nobody waits in the generator
PROBES_PER_S, PROBE_CONNECTIONS = 20, 128
BIN_S = 0.25


@dataclass(frozen=True)
class Phase:
    """A stretch of time with one arrival rate."""

    factor: float  # of the saturating load
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Row:
    """What one phase gave. Latencies count from the intended send time."""

    phase: Phase
    offered_per_s: float
    goodput_per_s: float  # answered within the deadline
    refused: dict[int, int]  # by status; 0: broken or unanswered
    p50_ms: float
    p99_ms: float
    health_p99_ms: float


def phases(calm_s: float, over_s: float) -> list[Phase]:
    """Return calm, 2 x, calm, 5 x, calm, 10 x, calm."""
    factors = [CALM, *(factor for over in FACTORS for factor in (over, CALM))]
    lengths = [calm_s if factor == CALM else over_s for factor in factors]
    ends = np.cumsum(lengths).tolist()
    return [Phase(f, end - length, end) for f, length, end in zip(factors, lengths, ends, strict=True)]


def row(sent: Sent, phase: Phase) -> Row:
    """Sum up one phase."""
    begin, end = phase.begin_s, phase.end_s
    meant, good, seconds = sent.meant(0, begin, end), sent.good(0, begin, end), end - begin
    statuses, counts = np.unique(sent.status[meant & ~good], return_counts=True)
    # Goodput is what was answered in the phase, whenever it was asked, and before its caller gave up.
    in_time = sent.good() & (sent.done_s - sent.intended_s <= DEADLINE_S)
    answered = in_time & (sent.done_s >= begin) & (sent.done_s < end)
    return Row(
        phase,
        float(meant.sum()) / seconds,
        float(answered.sum()) / seconds,
        dict(zip(statuses.tolist(), counts.tolist(), strict=True)),
        *_percentiles(sent.latency_ms(good), (50, 99)),
        *_percentiles(sent.latency_ms(sent.good(1, begin, end)), (99,)),
    )


def describe(rows: Sequence[Row], peak_per_s: float) -> list[str]:
    """Return the Markdown table of the phases; goodput is beside the closed loop's peak."""
    lines = ["| load | offered/s | goodput/s | of the peak | p50 ms | p99 ms | health p99 ms | not answered |"]
    lines.append("|--:" * 7 + "|---|")
    for each in rows:
        refused = ", ".join(f"{count} x {status or 'broken'}" for status, count in each.refused.items()) or "none"
        figures = (each.offered_per_s, each.goodput_per_s, each.goodput_per_s / peak_per_s)
        latencies = f"{each.p50_ms:.1f} | {each.p99_ms:.1f} | {each.health_p99_ms:.1f}"
        lines.append(
            f"| {each.phase.factor:g} x | {{:,.0f}} | {{:,.0f}} | {{:.2f}} | {latencies} | {refused} |".format(*figures)
        )
    return lines


def draw(sent: Sent, memory: Sequence[tuple[float, float]], peak_per_s: float) -> str:
    """Return the picture: rates, latencies of the admitted, health and memory over time."""
    edges = np.arange(0, float(sent.intended_s[-1]) + BIN_S, BIN_S)
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    bins = list(pairwise(edges.tolist()))
    rows = [row(sent, Phase(0, begin, end)) for begin, end in bins]
    rates = [
        Series("offered", middles, [each.offered_per_s for each in rows]),
        Series("answered", middles, [each.goodput_per_s for each in rows]),
        Series("peak", [middles[0], middles[-1]], [peak_per_s, peak_per_s]),
    ]
    latencies = [
        _known("p99", middles, [each.p99_ms for each in rows]),
        _known("p50", middles, [each.p50_ms for each in rows]),
    ]
    health = [_known("p99", middles, [each.health_p99_ms for each in rows])]
    held = [Series("PSS", [second for second, _ in memory], [mb for _, mb in memory])]
    charts = [
        Plot("requests/s", rates),
        Plot(f"latency of admitted requests in ms (deadline {DEADLINE_S * 1000:.0f})", latencies),
        Plot("latency of /health/live in ms", health),
        Plot("memory in MB", held),
    ]
    return chart.plots("Overload: 2, 5 and 10 times the saturating load", charts, "seconds")


def _known(label: str, x: Sequence[float], y: Sequence[float]) -> Series:
    """Return a line without the bins in which nobody was answered."""
    points = [(at, value) for at, value in zip(x, y, strict=True) if not math.isnan(value)]
    return Series(label, [at for at, _ in points], [value for _, value in points])


@contextmanager
def watched_memory(server: Running, every_s: float = 0.5) -> Iterator[list[tuple[float, float]]]:
    """Collect (seconds, PSS in MB) of the server's processes while the block runs."""
    ended, found, begun = threading.Event(), list[tuple[float, float]](), time.perf_counter()

    def watch() -> None:
        while not ended.wait(every_s):
            found.append((time.perf_counter() - begun, server.usage().pss_mb))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def main(arguments: list[str]) -> None:
    """Start one worker, find its saturating load, overload it, print and draw."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=main.__doc__)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--calm", type=float, default=4.0, help="seconds between the overloads")
    parser.add_argument("--over", type=float, default=6.0, help="seconds of each overload")
    chosen = parser.parse_args(arguments)
    loads.require_wrk()
    write_missing(chosen.work)
    request = native(HEAVY, ROWS, named=False, models=chosen.work / "heavy")
    launch = serve(chosen.work / "heavy", workers=1)
    with started(launch, request, chosen.work / "logs" / "overload.log") as server:
        peak = loads.run(Load("peak", ROWS, 16, ""), request, HOST, server.port, 4).requests_per_s
        hurried = replace(request, headers=request.headers | {"X-Request-Timeout-S": f"{DEADLINE_S:g}"})
        with watched_memory(server) as memory:
            sent = offer(hurried.body, hurried.headers, server.port, phases(chosen.calm, chosen.over), peak)
    picture = chosen.work / "overload.svg"
    picture.write_text(draw(sent, memory, peak))
    print(f"saturating load: {peak:,.0f} requests/s of {ROWS} rows")
    print(*describe([row(sent, phase) for phase in phases(chosen.calm, chosen.over)], peak), sep="\n")
    print(f"memory at most {max(mb for _, mb in memory):.0f} MB; generator used {sent.cpu_share:.2f} cores", end="")
    print(f" and was {sent.late_p99_ms():.1f} ms late at p99; picture: {picture}")


def offer(body: bytes, headers: dict[str, str], port: int, plan: Sequence[Phase], peak_per_s: float) -> Sent:
    """Send the phases' arrivals, and health probes beside them on connections of their own."""
    arrivals = np.concatenate(
        [open_loop.poisson(p.factor * peak_per_s, p.begin_s, p.end_s, seed) for seed, p in enumerate(plan)]
    )
    probes = open_loop.evenly(PROBES_PER_S, 0, plan[-1].end_s)
    payloads = [payload("POST", "/predict", headers, body), payload("GET", "/health/live", {})]
    return open_loop.send((HOST, port), payloads, [arrivals, probes], [CONNECTIONS, PROBE_CONNECTIONS])


def _percentiles(values: open_loop.Times, which: tuple[int, ...]) -> list[float]:
    return np.percentile(values, which).tolist() if len(values) else [math.nan] * len(which)


if __name__ == "__main__":
    main(sys.argv[1:])
