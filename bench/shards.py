"""What shards cost, and what processes gain: `python -m bench.shards`.

The epoch of the ordinary loop, of the sharded loop on one process, and of the sharded loop on several, on the same random
rows and one thread a process. The first two are timed in turn, by processor time too, which other work on the machine does
not stretch.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from batchproof.training.distributed.group import Group, joined
from batchproof.training.distributed.place import Place
from batchproof.training.fit.loop import Run
from batchproof.training.fit.selection import defaults
from batchproof.training.fit.sharded import ShardedRun
from batchproof.training.network.network import Network
from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import Rows


class Work(NamedTuple):
    """What is timed."""

    rows: int
    width: int
    rounds: int


class Seconds(NamedTuple):
    """How long an epoch took: medians."""

    wall: float
    cpu: float


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.shards", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_001, help="training rows; batches follow by rule (%(default)s)")
    parser.add_argument("--width", type=int, default=200, help="encoded columns (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="2, 4 or 8; 1 leaves them out (%(default)s)")
    return parser.parse_args()


def made_run(work: Work, group: Group | None) -> Run:
    """Return a fit of random rows, about to start, with the network that is the rule for so many."""
    torch.manual_seed(0)
    train, held = (
        Rows(torch.randn(count, work.width), None, torch.randint(0, 2, (count,)))
        for count in (work.rows, work.rows // 3)  # validation rows: a 60/20/20 split's
    )
    settings = replace(defaults.fit_settings(work.rows), epochs=10_000)
    network = Network(work.width, [], 1, defaults.network_settings(work.rows))
    start = Run if group is None else partial(ShardedRun, group=group)
    return start(network, Objective("binary", 1), train, held, settings)


def timed(run: Run) -> Seconds:
    """Time one epoch."""
    start, start_cpu = time.perf_counter(), time.process_time()
    run.epoch()
    return Seconds(time.perf_counter() - start, time.process_time() - start_cpu)


def middle(times: list[Seconds]) -> Seconds:
    """Return the medians."""
    return Seconds(*(median(values) for values in zip(*times, strict=True)))


def one_of_several(rank: int, size: int, store: str, work: Work, results: "multiprocessing.Queue[Seconds]") -> None:
    """Time the epochs of one process of a group."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    with joined(Place(rank, size, rank, Path(store)), "cpu") as group:
        run = made_run(work, group)
        timed(run)  # warms up
        seconds = middle([timed(run) for _ in range(work.rounds)])
    if rank == 0:
        results.put(seconds)


def several(size: int, work: Work) -> Seconds:
    """Return the time of an epoch on `size` processes; the processor time is that of the first."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[Seconds] = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        children = [
            context.Process(target=one_of_several, args=(rank, size, store, work, results)) for rank in range(size)
        ]
        for child in children:
            child.start()
        seconds = results.get(timeout=600)
        for child in children:
            child.join()
    return seconds


def main() -> None:
    """Measure and print."""
    chosen = arguments()
    work = Work(chosen.rows, chosen.width, chosen.rounds)
    torch.set_num_threads(1)
    plain, sharded = made_run(work, None), made_run(work, Group(0, 1))
    timed(plain), timed(sharded)  # the first of each warms up
    pairs = [(timed(plain), timed(sharded)) for _ in range(work.rounds)]
    alone, shards = (middle(list(times)) for times in zip(*pairs, strict=True))
    ratio = median(two.cpu / one.cpu for one, two in pairs)
    print(f"{plain.batches} steps of {work.rows // plain.batches} rows, {work.width} columns, one thread a process")
    print(f"one process, no shards:  {alone.wall:.3f} s an epoch, {alone.cpu:.3f} s of processor time")
    print(f"one process, 8 shards:   {shards.wall:.3f} s, {shards.cpu:.3f} s: ratio of processor times {ratio:.2f}")
    if chosen.processes > 1:
        more = several(chosen.processes, work)
        print(
            f"{chosen.processes} processes, 8 shards:   {more.wall:.3f} s, {more.cpu:.3f} s in the first: "
            f"{shards.wall / more.wall:.2f} times as fast as one with shards, {alone.wall / more.wall:.2f} as one without"
        )


if __name__ == "__main__":
    main()
