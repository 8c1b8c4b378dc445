"""Bundles of real tables as servers, beside LightGBM's trees of the same rows behind mosec and FastAPI.

    python -m bench.peers.real DATA build/bench --tables adult

DATA is a folder of Parquet files with a meta.json that names the target of each. A bundle is trained by the defaults for
one epoch, which gives the graph that a whole fit would give. The trees are grown on at most 50 000 rows with LightGBM's
defaults. Every first answer is checked: ours against onnxruntime, the trees' against the booster in the process that
grew them. Printed are a table a load, the ratios to the best other server of each number of trees, and where the
processor time of a row goes in Batchproof. `--prepare` installs, trains and grows, and measures nothing.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
from pyarrow import compute, parquet

from batchproof.service.bundle import reader
from batchproof.service.bundle.reader import Bundle
from batchproof.service.features.arrays import Arrays, numbers_of
from batchproof.service.features.columns import encode_columns
from bench import history, report, rounds, row_costs, table_bodies
from bench.bodies import Request
from bench.contenders import ROOT, Contender, batchproof
from bench.loads import LOADS, require_wrk
from bench.peers import forest
from bench.peers.install import installed
from bench.real_bundles import read_rows, trained
from bench.rounds import Measured
from bench.row_costs import Costs

TABLES = ("adult", "diamonds", "flights")
RIVALS = {  # our load, and the loads of other servers that carry the same rows as their callers would send them
    "A-named": ("A-named",),
    "B-named": ("B-named",),
    "C-named": ("C-named",),
    "C": ("C", "C-named"),
    "D-named": ("D-named",),
    "D": ("D", "D-named"),
    "D-csv": ("D", "D-named"),
    "D-arrow": ("D", "D-named"),
}
SIZES = (1, 100, 1000)  # rows a request
B_ROWS = 32  # of a run of load B at most: one of each connection


@dataclass(frozen=True)
class Real:
    """One table with its bundle, and the rows that servers are asked about."""

    name: str
    folder: Path  # of the bundle
    bundle: Bundle
    asked: pa.Table  # the features' columns

    @cached_property
    def arrays(self) -> Arrays:
        """Return the rows asked about as the engine gets them."""
        columns = {name: self.asked[name].to_pylist() for name in self.asked.column_names}
        return encode_columns(self.bundle.manifest.signature, columns)

    def answer(self, rows: int) -> np.ndarray:
        """Return what onnxruntime gives for the first rows, [rows, numbers] float32."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(self.bundle.model, options, providers=["CPUExecutionProvider"])
        feeds = {name: array[:rows] for name, array in self.arrays._asdict().items() if array is not None}
        names = [output.name for output in session.get_outputs()]
        return numbers_of(dict(zip(names, session.run(names, feeds), strict=True)))

    @cached_property
    def requests(self) -> dict[str, Request]:
        """Return our request of each format and number of rows."""
        is_class = self.bundle.manifest.signature.classes is not None
        return table_bodies.requests(self.asked, SIZES, self.answer, is_class=is_class)


def main(arguments: list[str]) -> None:
    """Prepare, measure, print and remember."""
    chosen = _arguments(arguments)
    say: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731
    work = chosen.work.absolute()
    require_wrk()
    targets = targets_of(chosen.data, chosen.tables)
    environments = {name: installed(work, f"{name}-trees") for name in chosen.only}
    for name, target in targets.items():
        real = prepared(chosen.data / f"{name}.parquet", target, work / "real")
        contenders = list(_contenders(real, work, target, chosen, environments))
        if chosen.prepare:
            say(f"{name}: ready, {len(contenders)} servers")
            continue
        plan = rounds.Plan(tuple(chosen.loads), (), chosen.seconds, chosen.rounds)
        measured = rounds.run(contenders, plan, work / "logs" / name, say)
        history.append(work / "real.jsonl", {"table": name, **history.entry(measured, {}, ROOT)})
        say("\n".join([*text(name, measured, chosen.loads), *report.trouble(measured)]))
        say("\n".join(where_time_goes(measured, _costs(real, chosen.loads), chosen.loads)))


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers.real", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of Parquet tables with a meta.json")
    parser.add_argument("work", type=Path, help="folder for bundles, virtual environments, logs and results")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), metavar="TABLE", help="default: %(default)s")
    parser.add_argument("--only", nargs="*", default=list(forest.SERVERS_OF_TREES), choices=forest.SERVERS_OF_TREES)
    parser.add_argument("--trees", nargs="+", type=int, default=[100, 1000], metavar="COUNT")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="of Batchproof")
    parser.add_argument("--peer-workers", nargs="+", type=int, default=[2], help="of the other servers")
    parser.add_argument("--loads", nargs="+", default=list(RIVALS), choices=list(RIVALS), metavar="LOAD")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="install, train and grow only")
    return parser.parse_args(arguments)


def targets_of(data: Path, tables: Sequence[str]) -> dict[str, str]:
    """Return the target of each table; ends with one sentence where the folder has no such table."""
    meta = data / "meta.json"
    if not meta.is_file():
        sys.exit(f'{meta} is not there: DATA needs a meta.json such as {{"adult": {{"target": "income"}}}}.')
    known = json.loads(meta.read_text())
    for name in tables:
        if name not in known or not (data / f"{name}.parquet").is_file():
            there = ", ".join(sorted(name for name in known if (data / f"{name}.parquet").is_file()))
            sys.exit(f"{data} has no table {name!r}; it has {there}.")
    return {name: known[name]["target"] for name in tables}


def prepared(table: Path, target: str, models: Path) -> Real:
    """Return a table with its bundle, trained on the first call; the rows asked about are drawn from the whole table."""
    folder = trained(table, target, models)
    bundle = reader.read(folder)
    names = [feature.name for feature in bundle.manifest.signature.inputs]
    rows = parquet.read_table(table).replace_schema_metadata()
    rows = rows.filter(compute.is_valid(rows[target]))
    places = np.sort(np.random.default_rng(0).choice(len(rows), SIZES[-1], replace=len(rows) < SIZES[-1]))
    return Real(table.stem, folder, bundle, rows.select(names).take(places))


def _contenders(
    real: Real, work: Path, target: str, chosen: argparse.Namespace, environments: dict[str, Path]
) -> Iterator[Contender]:
    arithmetic = real.bundle.manifest.arithmetic.kind
    for workers in chosen.workers:
        yield batchproof(real.requests, real.folder.parent, workers, arithmetic)
    if environments:
        manifest = real.bundle.manifest
        home, signature = work / "forests" / f"{real.name}-{manifest.sha256[:8]}", manifest.signature
        read = partial(read_rows, real.folder, chosen.data / f"{real.name}.parquet", target)
        programs = next(iter(environments.values()))
        forest.grow(programs, home, signature, read, real.arrays, chosen.trees)
        asked = table_bodies.json_rows(real.asked)
        for workers in chosen.peer_workers:
            for count in chosen.trees:
                yield from forest.contenders(environments, home, count, workers, asked)


def text(name: str, measured: Sequence[Measured], loads: Sequence[str]) -> list[str]:
    """Return a Markdown table a load: the figures of each server, and for ours the ratios to the best others."""
    titles = [
        "requests/s",
        "rows/s",
        "p50 ms",
        "p99 ms",
        "CPU µs a row",
        "rows/s x best",
        "CPU x best",
        "not 2xx",
        "foreign cores",
    ]
    lines = []
    for load in loads:
        each = LOADS[load]
        lines += [
            f"\n### {name}, {load}: {_plural(each.rows, 'row')} a request, {_plural(each.connections, 'connection')}\n"
        ]
        lines += ["| server | " + " | ".join(titles) + " |", "|---" + "|--:" * len(titles) + "|"]
        lines += [_line(mine, load, measured) for mine in measured if mine.loads.get(load)]
    return lines


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count > 1 else ''}"


def _line(mine: Measured, load: str, measured: Sequence[Measured]) -> str:
    rows = LOADS[load].rows
    figures = [
        mine.median(load, name) for name in ("requests_per_s", "rows_per_s", "p50_ms", "p99_ms", "server_cpu_us")
    ]
    rate, rows_rate, p50, p99, cpu = (value or 0.0 for value in figures)
    cells = [f"{rate:,.0f}", f"{rows_rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{cpu / rows:,.2f}" if cpu else "-"]
    is_ours = report.is_ours(mine)
    cells += [ratios(mine, load, measured, "rows_per_s", max) if is_ours else ""]
    cells += [ratios(mine, load, measured, "server_cpu_us", min) if is_ours else ""]
    results = mine.loads[load]
    cells += [str(sum(result.refused + result.broken for result in results))]
    cells += [f"{max(result.foreign_cores for result in results):.2f}"]
    return "| " + " | ".join([mine.contender.name, *cells]) + " |"


def ratios(mine: Measured, load: str, measured: Sequence[Measured], figure: str, best: Callable[..., float]) -> str:
    """Return our figure over the best other server's, for each number of trees: `1.20 (100 trees), 5.10 (1000 trees)`."""
    found = []
    for trees in dict.fromkeys(_trees(other) for other in measured if not report.is_ours(other)):
        values = [
            other.median(theirs, figure)
            for other in measured
            if not report.is_ours(other) and _trees(other) == trees
            for theirs in RIVALS[load]
        ]
        known = [value for value in values if value]
        value = mine.median(load, figure)
        if known and value:
            found.append(f"{value / best(known):.2f} ({trees})")
    return ", ".join(found)


def _trees(mine: Measured) -> str:
    return mine.contender.name.rpartition(", ")[2]


def _costs(real: Real, loads: Sequence[str]) -> dict[str, Costs]:
    """Measure where the time of a row goes, for the request of each load."""
    bodies = {load: real.requests[LOADS[load].request].body for load in loads}
    run_rows = {load: B_ROWS if load.startswith("B") else LOADS[load].rows for load in loads}
    return row_costs.measure(
        row_costs.loaded(real.folder), {load: (LOADS[load].request, body) for load, body in bodies.items()}, run_rows
    )


def where_time_goes(measured: Sequence[Measured], costs: Mapping[str, Costs], loads: Sequence[str]) -> list[str]:
    """Return a Markdown table of the processor time of a row: the parts measured in process, and the servers' whole."""
    ours = [mine for mine in measured if report.is_ours(mine)]
    titles = ["reading and encoding", "in front of the network", "network", "writing", "sum"]
    titles += [f"server, {mine.contender.workers} w" for mine in ours]
    lines = ["\nµs of processor time a row, parts in this process and whole servers\n"]
    lines += ["| load | " + " | ".join(titles) + " |", "|---" + "|--:" * len(titles) + "|"]
    for load in loads:
        cost = costs[load]
        cells: list[Any] = [cost.reading, cost.front, cost.network, cost.writing, cost.total]
        for mine in ours:
            whole = mine.median(load, "server_cpu_us")
            cells.append(None if whole is None else whole / LOADS[load].rows)
        shown = ["-" if cell is None else f"{cell:.2f}" for cell in cells]
        lines.append(f"| {load} | " + " | ".join(shown) + " |")
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])
