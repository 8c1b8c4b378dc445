"""How much of an epoch is not forward, backward and optimiser step: `python -m bench.train_speed`.

Both are timed in one run, in turn, on the same tensors: the epoch that training runs, and the bare loop on batches
that lie ready. The rest is shuffling and gathering rows, clipping, averaging, the schedule and validation.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import torch

from batchproof.training.fit import loop as fits
from batchproof.training.fit.selection import defaults as rules
from batchproof.training.network.network import Network, NetworkSettings
from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import Rows


def arguments() -> argparse.Namespace:
    """Read the command line; the defaults are the size of a table of a third of a million rows."""
    parser = argparse.ArgumentParser(prog="python -m bench.train_speed", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="training rows (%(default)s)")
    parser.add_argument("--width", type=int, default=200, help="encoded columns (%(default)s)")
    parser.add_argument("--members", type=int, default=1, help="networks side by side (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="times each is measured (%(default)s)")
    parser.add_argument("--batch-rows", type=int, default=None, help="left out: by rule")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    return parser.parse_args()


def made_run(chosen: argparse.Namespace) -> fits.Run:
    """Return a fit of random rows, about to start."""
    torch.manual_seed(0)
    rows = [
        Rows(torch.randn(count, chosen.width), None, torch.randint(0, 2, (count,)))
        for count in (chosen.rows, chosen.rows // 3)  # validation rows: a 60/20/20 split's
    ]
    settings = replace(rules.fit_settings(chosen.rows), device=chosen.device, epochs=10_000)
    settings = replace(settings, batch_rows=chosen.batch_rows) if chosen.batch_rows else settings
    network = Network(chosen.width, [], 1, NetworkSettings(members=chosen.members))
    return fits.Run(network, Objective("binary", 1), rows[0], rows[1], settings)


class Seconds(NamedTuple):
    """How long one epoch took."""

    wall: float
    cpu: float  # over all threads: what other work on the machine does not stretch


def bare_epoch(run: fits.Run) -> Seconds:
    """Time forward, backward and optimiser steps alone, over batches that lie ready."""
    size = len(run.train.y) // run.batches
    device = run.train.y.device
    batches = [run.train.take(torch.arange(i * size, (i + 1) * size, device=device)) for i in range(run.batches)]
    return timed(run, lambda: [step(run, batch) for batch in batches])


def step(run: fits.Run, batch: Rows) -> None:
    """Take one bare step."""
    run.optimizer.forget_gradients()
    run.loss(batch).backward()
    run.optimizer.step()


def whole_epoch(run: fits.Run) -> Seconds:
    """Time an epoch as training runs it."""
    return timed(run, run.epoch)


def timed(run: fits.Run, work: Callable[[], object]) -> Seconds:
    """Time `work`, the device's included."""
    synchronise(run)
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    synchronise(run)
    return Seconds(time.perf_counter() - start, time.process_time() - start_cpu)


def synchronise(run: fits.Run) -> None:
    """Wait for the device."""
    if run.train.y.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    """Measure in turn and print the medians and their ratio."""
    chosen = arguments()
    torch.set_num_threads(min(torch.get_num_threads(), rules.most_threads(chosen.rows)))  # as training does
    run = made_run(chosen)
    bare_epoch(run), whole_epoch(run)  # the first of each warms up
    pairs = [(whole_epoch(run), bare_epoch(run)) for _ in range(chosen.rounds)]
    print(
        f"{run.batches} steps of {chosen.rows // run.batches} rows, {torch.get_num_threads()} threads, {chosen.device}"
    )
    for kind in Seconds._fields:
        times = [(getattr(whole, kind), getattr(bare, kind)) for whole, bare in pairs]
        whole, bare, ratio = (median(values) for values in zip(*((w, b, w / b) for w, b in times), strict=True))
        print(
            f"{kind}: epoch {whole:.3f} s, bare steps {bare:.3f} s, ratio {ratio:.2f} (medians of {chosen.rounds} rounds)"
        )


if __name__ == "__main__":
    main()
