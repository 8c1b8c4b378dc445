"""Measure Batchproof beside other model servers, each in its own virtual environment.

    python -m bench.peers build/bench --only mosec ray
    python -m bench.peers build/bench --only --triton http://localhost:8000
    python -m bench.peers build/bench --only --triton /opt/tritonserver/bin/tritonserver

Installs what is missing, checks every answer against onnxruntime, loads every server in interleaved rounds, prints the
table and how far Batchproof is from the best peer on each load.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import chart, history, loads, report, rounds
from bench.bodies import own
from bench.contenders import FLOOR, ROOT, Contender, batchproof, floor
from bench.make_model import write_missing
from bench.peers import triton
from bench.peers.catalogue import PEERS
from bench.peers.install import installed
from bench.rounds import Measured

LOADS = ("A", "B", "C", "D", "E", "C-named", "D-named")
# Our load, the peers' load it is held against, the figure, and whether more of it is better.
COMPARISONS = (
    ("A", "A", "p50_ms", False),
    ("B", "B", "requests_per_s", True),
    ("B", "B", "p99_ms", False),
    ("C", "C", "rows_per_s", True),
    ("D", "D", "rows_per_s", True),
    ("E", "E", "rows_per_s", True),
    ("C-named", "C", "rows_per_s", True),
    ("D-named", "D", "rows_per_s", True),
    # CPU time an answer: what is left to compare where something else keeps the cores busy.
    ("B", "B", "server_cpu_us", False),
    ("C", "C", "server_cpu_us", False),
    ("D", "D", "server_cpu_us", False),
    ("E", "E", "server_cpu_us", False),
)


def main(arguments: list[str]) -> None:
    """Install, measure, print, draw and remember."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Measure beside other model servers.")
    parser.add_argument("work", type=Path, help="folder for bundles, virtual environments, logs and results")
    parser.add_argument("--only", nargs="*", default=list(PEERS), choices=list(PEERS), metavar="PEER")
    parser.add_argument(
        "--triton",
        metavar="URL_OR_PROGRAM",
        help="measure a Triton too: http://HOST:PORT of one that runs (it needs the models of WORK/triton), or tritonserver's path",
    )
    parser.add_argument(
        "--triton-backends", type=Path, metavar="FOLDER", help="of --triton PROGRAM (default: PROGRAM/../../backends)"
    )
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=list(LOADS), metavar="LOAD")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    loads.require_wrk()
    work = chosen.work.absolute()
    write_missing(work)
    reference = work / "reference"
    requests = own(reference)
    contenders = [floor(requests), *(batchproof(requests, reference, workers) for workers in (1, 2))]
    contenders += _peers(work, chosen.only)
    if chosen.triton:
        contenders += triton.contenders(chosen.triton, chosen.triton_backends, work)
    plan = rounds.Plan(tuple(chosen.loads), (), chosen.seconds, chosen.rounds)
    measured = rounds.run(contenders, plan, work / "logs", lambda line: print(line, flush=True))
    history.append(work / "peers.jsonl", history.entry(measured, {}, ROOT))
    (work / "peers.svg").write_text(chart.bars("Batchproof and its peers on this machine", report.panels(measured)))
    print(report.table(measured, FLOOR), *against_best(measured), *report.trouble(measured), sep="\n")


def _peers(work: Path, names: Sequence[str]) -> list[Contender]:
    found = []
    for name in names:
        print(f"installing {name}", flush=True)
        try:
            found += PEERS[name](installed(work, name), work)
        except subprocess.CalledProcessError as error:
            print(f"{name} is left out, it did not install: {error}; see {work / 'venvs' / name / 'pip.log'}")
    return found


def against_best(measured: Sequence[Measured]) -> list[str]:
    """Return a line for each of our contenders and loads: the figure over the best peer's of the same rounds."""
    peers = [mine for mine in measured if not report.is_ours(mine) and mine.contender.name != FLOOR]
    lines = []
    for mine in filter(report.is_ours, measured):
        for load, theirs, figure, more_is_better in COMPARISONS:
            rivals = {peer.contender.name: peer.median(theirs, figure) for peer in peers}
            known = {name: value for name, value in rivals.items() if value is not None}
            value = mine.median(load, figure)
            if known and value is not None:
                best = (max if more_is_better else min)(known, key=lambda name: known[name])
                lines.append(f"{mine.contender.name}: {load} {figure} {value / known[best]:.2f} x {best}")
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])
