"""Swaps of a model while it serves: what callers get, how long they wait, and what memory does.

    python -m bench.reload answers --swaps 200 --workers 1
    python -m bench.reload latency --workers 2 --beside 16
    python -m bench.reload memory --workers 1 2

`answers`: callers of every protocol (native, Open Inference, KServe version 1, gRPC, tables, a table that is streamed
slowly) go on while a pin moves to and fro in the settings file. Each answer must be, byte for byte, what the version that
it names answered before the load began. `latency`: one caller of one-row requests, in turns with and without reloads,
which follow one another without a pause. `memory`: private memory of all processes after each reload, with a picture.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bench.reload import answers, latency, memory
from bench.reload.service import served, served_copies

BUNDLE = Path("models/penguins/1")
WORK = Path("build/bench")


def show_answers(options: argparse.Namespace) -> int:
    """Print what callers of every protocol got; returns 1 if one answer was wrong or missing."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), options.workers) as (service, port):
        findings = answers.mixed(service, port, options.swaps, options.requests)
    print(f"{sum(findings.answers.values())} answers under {findings.swaps} swaps: {dict(findings.answers)}")
    print(f"{len(findings.wrong)} wrong or failed, {findings.overloaded} asked again after 429")
    print(*findings.wrong[:5], sep="\n")
    return 1 if findings.wrong else 0


def show_latency(options: argparse.Namespace) -> int:
    """Print what one caller waited for, with and without reloads."""
    body = latency.first_row(options.bundle)
    with (
        tempfile.TemporaryDirectory() as folder,
        served_copies(Path(folder), options.bundle, options.workers) as service,
        latency.company(service, body, options.beside),
    ):
        for swapping, half in latency.halves(service, body, options.rounds, options.seconds).items():
            print(f"{'during' if swapping else 'without'} reloads: {half.describe()}")
    return 0


def show_memory(options: argparse.Namespace) -> int:
    """Print and draw the memory over reloads, for each number of workers."""
    measured = {}
    for workers in options.workers:
        with tempfile.TemporaryDirectory() as folder, served_copies(Path(folder), options.bundle, workers) as service:
            measured[workers] = memory.over_reloads(service, options.swaps)
        print(f"workers {workers}: {memory.describe(measured[workers])}")
    options.work.mkdir(parents=True, exist_ok=True)
    (options.work / "reload.svg").write_text(memory.draw(measured))
    return 0


def main(arguments: list[str]) -> int:
    """Measure what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.reload", description=(__doc__ or "").splitlines()[0])
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("answers", help=show_answers.__doc__)
    part.add_argument("--swaps", type=int, default=200, help="least number of them")
    part.add_argument("--requests", type=int, default=20_000, help="least number of them under the swaps")
    part.add_argument("--workers", type=int, default=1)
    part.set_defaults(show=show_answers)
    part = parts.add_parser("latency", help=show_latency.__doc__)
    part.add_argument("--bundle", type=Path, default=BUNDLE)
    part.add_argument("--workers", type=int, default=1)
    part.add_argument("--beside", type=int, default=0, help="further connections that are always busy")
    part.add_argument("--rounds", type=int, default=5, help="each with and without reloads")
    part.add_argument("--seconds", type=float, default=2.0, help="of each half of a round")
    part.set_defaults(show=show_latency)
    part = parts.add_parser("memory", help=show_memory.__doc__)
    part.add_argument("--bundle", type=Path, default=BUNDLE)
    part.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    part.add_argument("--swaps", type=int, default=100)
    part.add_argument("--work", type=Path, default=WORK, help="folder of the picture")
    part.set_defaults(show=show_memory)
    options = parser.parse_args(arguments)
    code: int = options.show(options)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
