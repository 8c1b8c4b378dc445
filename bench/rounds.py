"""Rounds: every contender is started, loaded and stopped in turn, again and again; figures are medians over rounds.

Turns of one contender lie minutes apart, so that what else the machine does falls on all of them alike.
"""

import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench import loads, open_loop
from bench.bodies import Request, WrongAnswer
from bench.connection import payload
from bench.contenders import Contender
from bench.loads import LOADS, Result
from bench.server import TICKS_PER_S, NotReady, Running, Usage, started

OPEN_CONNECTIONS = 64


@dataclass(frozen=True)
class Plan:
    """What one turn measures."""

    closed: tuple[str, ...]  # names of LOADS
    open_rates_per_s: tuple[int, ...]  # one-row requests that arrive at random, whatever the server does
    seconds: float
    rounds: int


@dataclass
class Measured:
    """What the turns of one contender gave."""

    contender: Contender
    loads: dict[str, list[Result]] = field(default_factory=dict)
    first_answer_s: list[float] = field(default_factory=list)
    idle: list[Usage] = field(default_factory=list)
    loaded: list[Usage] = field(default_factory=list)
    trouble: dict[str, str] = field(default_factory=dict)  # by load: why there is no figure

    def median(self, load: str, figure: str) -> float | None:
        """Return the median over rounds of a field of Result, None where the load was not answered or the field is not known."""
        values = [getattr(result, figure) for result in self.loads.get(load, [])]
        known = [value for value in values if not math.isnan(value)]
        return statistics.median(known) if known else None

    def pss_mb(self) -> float | None:
        """Return the median proportional memory after the loads, all processes together."""
        return statistics.median(usage.pss_mb for usage in self.loaded) if self.loaded else None

    def start_s(self) -> float | None:
        """Return the median time from exec to the first right answer."""
        return statistics.median(self.first_answer_s) if self.first_answer_s else None


def run(contenders: Sequence[Contender], plan: Plan, logs: Path, say: Callable[[str], None]) -> list[Measured]:
    """Take `plan.rounds` turns with every contender; one that does not start or answer has that as its result."""
    measured = [Measured(contender) for contender in contenders]
    for number in range(plan.rounds):
        for mine in measured:
            say(f"round {number + 1} of {plan.rounds}: {mine.contender.name}")
            try:
                _turn(mine, plan, logs)
            except NotReady as error:
                mine.trouble["start"] = str(error)
                say(f"  did not start: {error}")
    return measured


def _turn(mine: Measured, plan: Plan, logs: Path) -> None:
    requests = mine.contender.requests
    first = next(iter(requests.values()))
    log = logs / f"{mine.contender.name.replace(' ', '_').replace(',', '')}.log"
    with started(mine.contender.launch, first, log) as server:
        if server.is_ours:
            mine.first_answer_s.append(server.first_answer_s)
            mine.idle.append(server.usage())
        for name in plan.closed:
            if name in requests and name not in mine.trouble:
                _keep(mine, name, server, partial(closed, name, requests[name], server, plan.seconds))
        for rate in plan.open_rates_per_s:
            name = f"open-{rate}"
            _keep(mine, name, server, partial(opened, rate, first, server, plan.seconds))
        if server.is_ours:
            mine.loaded.append(server.usage())


def _keep(mine: Measured, name: str, server: Running, load: Callable[[], Result]) -> None:
    busy, cpu, own, begun = _busy_s(), server.usage().cpu_s, _own_cpu_s(), time.perf_counter()
    try:
        result = load()
    except (WrongAnswer, OSError, ValueError) as error:
        mine.trouble[name] = str(error)
        return
    if not server.is_ours:
        mine.loads.setdefault(name, []).append(result)  # its processor time is not known, nor what others used
        return
    wall, cpu = time.perf_counter() - begun, server.usage().cpu_s - cpu
    foreign = max(0.0, _busy_s() - busy - cpu - (_own_cpu_s() - own)) / wall
    # The warm-up's requests are in the CPU time and not in the count: the rate speaks for the whole time.
    per_answer_us = cpu / (result.requests_per_s * wall) * 1e6 if result.requests_per_s else math.nan
    mine.loads.setdefault(name, []).append(replace(result, server_cpu_us=per_answer_us, foreign_cores=foreign))


def closed(name: str, request: Request, server: Running, seconds: float) -> Result:
    """Run one closed loop."""
    return loads.run(LOADS[name], request, server.host, server.port, seconds)


def opened(rate_per_s: float, request: Request, server: Running, seconds: float) -> Result:
    """Run one open loop of Poisson arrivals; the latencies count from the intended times."""
    content = payload("POST", request.path, request.headers, request.body)
    arrivals = open_loop.poisson(rate_per_s, 0, seconds, seed=1)
    sent = open_loop.send((server.host, server.port), [content], [arrivals], [OPEN_CONNECTIONS])
    good = sent.good()
    if not good.any():
        raise WrongAnswer(f"no request of {rate_per_s} a second was answered")
    rate, broken = float(good.sum()) / seconds, int((sent.status == 0).sum())
    p50_ms, p99_ms, max_ms = np.percentile(sent.latency_ms(good), [50, 99, 100]).tolist()
    return Result(rate, rate, p50_ms, p99_ms, max_ms, refused=len(good) - int(good.sum()) - broken, broken=broken)


def _busy_s() -> float:
    """Return the seconds that all cores together have been busy since boot, stolen time included."""
    fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS_PER_S


def _own_cpu_s() -> float:
    """Return the CPU time of this process and of the loads it has run; servers are counted by their own tree."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
