"""One run: learn the right answers from a calm service, then let callers and faults loose on it."""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.chaos.callers import Caller
from bench.chaos.faults import Faults
from bench.chaos.findings import Findings
from bench.chaos.questions import VERSIONS, learn, questions
from bench.chaos.rpc import RpcCaller, rpc_questions
from bench.chaos.service import served
from bench.chaos.watch import Watch

# What callers do; a way that stands there twice is taken twice as often.
WAYS = (
    *("single",) * 8,
    *("keep",) * 6,
    *("pipeline",) * 6,
    *("fresh", "fresh", "half-close", "half-close", "slow", "garbage", "leave", "leave"),
)
RPC_SHARE = 0.1  # of the requests
STALLED_S = 180.0  # after the end, in which every caller must come to its own end


class Plan(NamedTuple):
    """How long and how much."""

    seconds: float
    workers: int = 2
    callers: int = 8
    per_s: float = 600.0  # requests of all callers together
    harm_s: float = 15.0  # between two faults; 0 for none
    reload_s: float = 10.0  # between two reloads; 0 for none
    each: int = 200  # questions of the most frequent kind
    seed: int = 0
    look_s: float = 5.0
    report_s: float = 60.0


class Result(NamedTuple):
    """What callers saw, and what the service held."""

    findings: Findings
    watch: Watch


def run(plan: Plan, say: Callable[[str], None]) -> Result:
    """Do as planned; raises AssertionError where the calm service answers wrongly or does not end as it should."""
    findings = Findings(say)
    with tempfile.TemporaryDirectory() as name, served(Path(name), plan.workers, findings) as service:
        models, asked = Path(name) / "models", questions(plan.each, plan.seed)
        compared = 0
        for _ in VERSIONS:
            service.swap_and_wait()
            compared += learn(service.address, service.version, asked, models)
        calls = rpc_questions(plan.each, models)
        say(f"{len(asked)} questions in each of 2 versions: {compared} rows have the bits of a run of their own")
        watch, is_over = Watch(service, findings, plan.look_s), threading.Event()
        faults = Faults(service, findings, plan.seed)
        works: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(watch.run, ())]
        rate = plan.per_s / plan.callers
        made = [Caller(service, asked, findings, number + plan.seed) for number in range(plan.callers)]
        works += [(caller.run, (rate, WAYS)) for caller in made]
        works.append((RpcCaller(service, calls, findings, plan.seed).run, (plan.per_s * RPC_SHARE,)))
        works += [(faults.harm, (plan.harm_s,))] if plan.harm_s else []
        works += [(faults.reload, (plan.reload_s,))] if plan.reload_s else []
        threads = [_started(work, is_over, arguments, findings) for work, arguments in works]
        _wait(plan, findings, watch, say)
        is_over.set()
        for thread in threads:
            thread.join(STALLED_S)
            if thread.is_alive():
                findings.add("hung", f"{thread.name} did not come to its end")
    return Result(findings, watch)


def _started(
    work: Callable[..., None], is_over: threading.Event, arguments: tuple[Any, ...], findings: Findings
) -> threading.Thread:
    def guarded() -> None:
        try:
            work(is_over, *arguments)
        except Exception as error:  # a caller that dies would make the run look calm
            findings.add("unhandled", f"in the benchmark itself: {error!r}")
            raise

    thread = threading.Thread(target=guarded, name=work.__qualname__, daemon=True)
    thread.start()
    return thread


def _wait(plan: Plan, findings: Findings, watch: Watch, say: Callable[[str], None]) -> None:
    """Report now and then until the time is over."""
    end_s = time.monotonic() + plan.seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(plan.report_s, left_s))
        last = watch.samples[-1] if watch.samples else None
        held = f"; {last.memory_mib:.0f} MiB, {last.descriptors} descriptors, p99 {last.p99_ms:.1f} ms" if last else ""
        say(f"{(plan.seconds - max(0.0, end_s - time.monotonic())) / 60:.1f} min: {findings.summary()}{held}")
