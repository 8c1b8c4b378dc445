"""Check on this host that a row gets the same bits on its own and in any batch, with the runners that will serve.

One attempt: draw probe rows; run each one on its own; run batches of many sizes, joined from uneven requests, and for each
row a batch filled with it; compare every row of every batch with the row's bits on its own. After the first draw the smaller
batches run on the calling thread, as small batches do while serving. After the second draw, batches of every size with
the rows of both draws run on two worker threads at the same time, as large batches may. These two draws are always checked.
More draws follow, alternating between the two kinds, until the time is used up. If bits differ, every run is padded to one
fixed row count and the attempt is repeated.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

import numpy as np

from batchproof.service.bundle.reader import Bundle
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.model import Verify
from batchproof.service.inference.runner import Feeds, Runner, rows_of
from batchproof.service.invariance.batch_plans import filled, sizes_for, spread
from batchproof.service.invariance.bitwise import BitCounts, alone, compare
from batchproof.service.invariance.probe_rows import Draw, draws_for
from batchproof.service.invariance.time_budget import TimeBudget
from batchproof.service.invariance.verdict import Attempt, InvarianceError, Policy, Status, Verification, attempt_of

TILES = (16, 32, 64)  # rows; a lone row then costs what this many cost
LEAST_DRAWS = 2  # one for each kind of thread
WORKERS = 2  # threads side by side
CALLING_ROWS = 65  # the calling thread's largest batch: a larger one runs the same kernels on a worker thread


@dataclass(frozen=True)
class Effort:
    """How much is compared: never less than two draws over all sizes."""

    budget_s: float = 0.04  # for one attempt, if two draws take less
    rows: int = 0  # the least number of probe rows, whatever they cost
    keep_going: bool = False  # whether to use up the budget even after a difference, to know how many rows change
    time: TimeBudget | None = None  # when the check ends, finished or not; None: when it is finished


@dataclass(frozen=True)
class Checked:
    """The runners that may serve, and the verdict on them."""

    runners: tuple[Runner, ...]
    verification: Verification


@dataclass(frozen=True)
class Probes:
    """Probe rows, and their bits in a batch of one."""

    feeds: Feeds
    lone: Outputs
    new: range  # numbers of the rows that are to fill a batch, each for itself

    @classmethod
    def of(cls, runner: Runner, feeds: Feeds, allowed: TimeBudget) -> "Probes | None":
        """Run each row on its own; None if the time is used up before the last."""
        rows = rows_of(feeds)
        lone = alone(runner, feeds, allowed.within(np.array([row]) for row in range(rows)))
        is_whole = bool(lone) and rows_of(list(lone.values())) == rows
        return cls(feeds, lone, range(rows)) if is_whole else None

    def with_more(self, others: "Probes") -> "Probes":
        """Return these rows followed by `others`; only the latter are new."""
        before, more = rows_of(self.feeds), rows_of(others.feeds)
        feeds = [
            None if mine is None or theirs is None else np.concatenate([mine, theirs])
            for mine, theirs in zip(self.feeds, others.feeds, strict=True)
        ]
        lone = {name: np.concatenate([mine, others.lone[name]]) for name, mine in self.lone.items()}
        return Probes(feeds, lone, range(before, before + more))


@dataclass(frozen=True)
class BundleCheck:
    """The check of a bundle under a policy, for loading; a value, so that a child process can be sent it."""

    policy: Policy = "require"
    effort: Effort | None = None
    pause_factor: float = 0.0  # of the pauses between batches, for a process that serves meanwhile

    def __call__(self, bundle: Bundle, runner: Runner) -> tuple[Runner, Verification]:
        """Return the runner that may serve, and the verdict; raises InvarianceError where the policy refuses."""
        certificate = bundle.manifest.arithmetic.certificate
        effort = self.effort or Effort()
        if self.pause_factor:  # it compares as much, in more time
            budget_s = effort.budget_s * (1 + self.pause_factor)
            effort = replace(effort, budget_s=budget_s, time=TimeBudget(pause_factor=self.pause_factor))
        checked = verify([runner], draws_for(bundle), self.policy, proved=bool(certificate), effort=effort)
        return checked.runners[0], checked.verification


def for_bundles(policy: Policy = "require", effort: Effort | None = None, pause_factor: float = 0.0) -> Verify:
    """Return the check of a bundle under `policy`, for loading."""
    return BundleCheck(policy, effort, pause_factor)


def verify(
    runners: Sequence[Runner],
    draw: Draw | Callable[[int], Feeds],
    policy: Policy = "require",
    *,
    proved: bool = False,
    effort: Effort | None = None,
) -> Checked:
    """Check `runners`, which must agree with each other, and pad their runs where that is needed and allowed.

    `require`: as they are, else padded, else refused. `tile`: always padded, else refused. `report`: as they are,
    whatever the comparison shows. `proved` says that the graph has a certificate. Raises InvarianceError, and EngineError where
    a run fails.
    """
    started_s = time.perf_counter()
    attempts: list[Attempt] = []
    for tile_rows in _ways(policy):
        used = [_tiled(runner, tile_rows) for runner in runners] if tile_rows else list(runners)
        tried, bits = attempt(used, draw, effort)
        attempts.append(tried)
        if attempts[-1].holds or policy == "report" or (effort and effort.time and effort.time.is_over):
            break
    status = _status(attempts[-1], policy, proved=proved)
    verification = Verification(
        status=status,
        policy=policy,
        attempts=tuple(attempts),
        sessions=len(used),
        host=getattr(used[0].engine, "description", {}),
        bits=bits,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - started_s,
    )
    if status in ("failed", "undecided"):
        raise InvarianceError(verification)
    return Checked(tuple(used), verification)


def _ways(policy: Policy) -> tuple[int | None, ...]:
    """Return the ways to run that a policy allows, in the order they are tried: None, or a fixed row count."""
    return {"require": (None, *TILES), "tile": TILES, "report": (None,)}[policy]


def _tiled(runner: Runner, tile_rows: int) -> Runner:
    return type(runner)(runner.engine, tile_rows, tile_rows)


def _status(last: Attempt, policy: Policy, *, proved: bool) -> Status:
    if not last.holds:
        return "reported" if policy == "report" else "failed"
    if not last.is_complete:
        return "undecided"
    if last.tile_rows:
        return "tiled"
    return "proved" if proved else "verified"


def attempt(
    runners: Sequence[Runner], draw: Callable[[int], Feeds], effort: Effort | None = None
) -> tuple[Attempt, str]:
    """Compare draws of probe rows on every runner with their lone bits on the first one.

    Returns the counts, and a digest over the lone bits of draw 0.
    """
    effort = effort or Effort()
    allowed = effort.time or TimeBudget()
    started_s = time.perf_counter()
    counts = BitCounts()
    tile_rows = runners[0].tile_rows
    first = probes = Probes.of(runners[0], draw(0), allowed)
    rows = 0
    for number in count(1):
        begun_s = time.perf_counter()
        fresh = first if number == 1 else Probes.of(runners[0], draw(number - 1), allowed)
        if first is None or fresh is None:
            break
        rows += rows_of(fresh.feeds)
        probes = first if number == 1 else first.with_more(fresh)
        for runner in runners:
            counts.add(_over_sizes(runner, probes, number, allowed, again=runner is not runners[0]))
        now_s = time.perf_counter()
        is_late = now_s - started_s + (now_s - begun_s) > effort.budget_s  # the next draw would not fit
        is_settled = counts.first is not None and not effort.keep_going
        is_enough = number >= LEAST_DRAWS and rows >= effort.rows
        if is_settled or (is_enough and is_late) or allowed.is_over:
            break
    is_complete = counts.first is not None or not allowed.is_over
    seconds = time.perf_counter() - started_s
    return attempt_of(counts, tile_rows, rows, seconds, is_complete=is_complete), bits_of(first.lone if first else {})


def bits_of(outputs: Outputs) -> str:
    """Return a SHA-256 over outputs: equal on two hosts, or in two processes, where the bits were equal."""
    digest = hashlib.sha256()
    for name in sorted(outputs):
        digest.update(f"{name} {outputs[name].dtype.str} {outputs[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(outputs[name]).data)
    return digest.hexdigest()


def _over_sizes(runner: Runner, probes: Probes, number: int, allowed: TimeBudget, *, again: bool) -> BitCounts:
    """Compare over all sizes; every new row alone `again` too where another runner, or another thread, runs it."""
    rows = rows_of(probes.feeds)
    on_workers = number % 2 == 0
    sizes = [size for size in sizes_for(runner.run_rows) if on_workers or size <= CALLING_ROWS]
    batches = [*(spread(size, rows, size + number) for size in sizes), *filled(sizes, probes.new)]
    if again or on_workers:
        batches += [np.array([row]) for row in probes.new]
    if not on_workers:
        return compare(runner, probes.feeds, probes.lone, allowed.within(batches))
    counts = BitCounts()
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = (batches[worker::WORKERS] for worker in range(WORKERS))
        for compared in pool.map(lambda part: compare(runner, probes.feeds, probes.lone, allowed.within(part)), parts):
            counts.add(compared)
    return counts
