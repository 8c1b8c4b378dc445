"""Measure this checkout: `python -m bench`, or `make bench`.

Bare uvicorn (constant answer), Batchproof with one and two workers, two onnxruntime loops behind the same load generator
(the limit, and the same with bodies read) and loops alone (the ceiling), on the loads A to E, the start, the memory and an open loop, in interleaved
rounds on one machine. Everything is written under `--work`.
"""

import argparse
import sys
from pathlib import Path

from bench import chart, engine_loop, history, report, rounds
from bench.bodies import own
from bench.contenders import FLOOR, ROOT, Contender, batchproof, floor, limit
from bench.loads import LOADS, REAL_TABLES_ONLY, WORK, require_wrk
from bench.make_exact import write_exact
from bench.make_model import write_missing

LOADS_BY_DEFAULT = ("A", "B", "C", "D", "E", "B-named", "C-named", "D-named", "B-oip")


def main(arguments: list[str]) -> None:
    """Run, print, draw and remember."""
    chosen = _arguments(arguments)
    past = chosen.work / "history.jsonl"
    if chosen.compare:
        _print_comparison(past, chosen.compare)
        return
    require_wrk()
    write_missing(chosen.work)
    if not (chosen.work / "exact").exists():
        write_exact(chosen.work)
    plan = rounds.Plan(tuple(chosen.loads), tuple(chosen.open), chosen.seconds, chosen.rounds)
    measured = rounds.run(_contenders(chosen.work), plan, chosen.work / "logs", lambda line: print(line, flush=True))
    engine = _engine(chosen.work, chosen.seconds)
    history.append(past, history.entry(measured, engine, ROOT))
    (chosen.work / "bench.svg").write_text(chart.bars("Batchproof on this machine", report.panels(measured)))
    shares = [*report.limit_shares(measured), *report.engine_shares(measured, engine)]
    print(report.table(measured, FLOOR), *shares, *report.trouble(measured), sep="\n")
    if len(history.read(past)) > 1:
        _print_comparison(past, "")


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument(
        "--loads", nargs="+", default=LOADS_BY_DEFAULT, choices=sorted(LOADS.keys() - REAL_TABLES_ONLY), metavar="LOAD"
    )
    parser.add_argument(
        "--open", nargs="*", type=int, default=[500, 4000], metavar="RATE", help="open loops, requests/s"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every server; medians are printed")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument(
        "--compare", nargs="?", const="previous", metavar="COMMIT", help="only compare the last run with an earlier one"
    )
    return parser.parse_args(arguments)


def _contenders(work: Path) -> list[Contender]:
    reference, exact = work / "reference", work / "exact"
    requests = own(reference)
    ours = [batchproof(requests, reference, workers) for workers in (1, 2)]
    model = reference / "reference" / "1" / "model.onnx"
    loops = [limit(requests, model, 2), limit(requests, model, 2, reads=True)]
    return [floor(requests), *ours, *loops, batchproof(own(exact), exact, 2, "exact")]


def _engine(work: Path, seconds: float) -> dict[str, float]:
    """Measure the bare engine: rows/s at 1, 100 and 1000 rows a run, one and two processes of one thread."""
    model = work / "reference" / "reference" / "1" / "model.onnx"
    return {
        f"{rows} rows, {processes} processes": engine_loop.rows_per_s(model, rows, processes, seconds / 2)
        for rows in (1, 100, 1000)
        for processes in (1, 2)
    }


def _print_comparison(past: Path, commit: str) -> None:
    """Compare the last run with the last one before it, or with the last one of `commit`."""
    runs = history.read(past)
    earlier = [run for run in runs[:-1] if commit in ("", "previous", run["commit"])]
    if not earlier:
        sys.exit(f"{past} holds no earlier run{' of commit ' + commit if commit not in ('', 'previous') else ''}.")
    print(*history.compare(earlier[-1], runs[-1], FLOOR), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
