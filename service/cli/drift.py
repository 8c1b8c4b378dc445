"""`batchproof drift`: whether the rows of a table still look as the training rows of a model did.

    batchproof drift models/penguins rows.parquet
    batchproof drift models/penguins/3 'export.csv.gz' --json

Every table that `batchproof predict` reads is read. Each feature gets its figures of change beside a threshold that
follows from the number of rows on both sides: where nothing has changed, all figures of a table stay at or below theirs
in 999 of 1 000 tables. The model runs too, since its predictions are compared as well. docs/drift.md explains the figures.

Exit status: 0 nothing drifted; 1 something did; 2 the question cannot be answered, such as for a table of fewer than 1 000
rows, or a bundle that has no statistics of its training rows.
"""

import argparse
import json
import sys
from typing import Any

from batchproof.service.bundle import reader as bundle
from batchproof.service.cli.parts.parser import root
from batchproof.service.cli.predict import block_rows
from batchproof.service.configuration.settings import RUN_ROWS
from batchproof.service.drift.counts import Layout, WindowCounts, count
from batchproof.service.drift.report import MIN_ROWS, WindowReport, assess
from batchproof.service.errors import USAGE, BundleError, EngineError, ServiceError, behind, ended
from batchproof.service.inference import model
from batchproof.service.inference.catalogue import roots
from batchproof.service.inference.catalogue.repository import naming
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.tables.offline.score import ERROR_LIMIT, opened_blocks
from batchproof.service.tables.offline.sources import STANDARD_INPUT, SourceError, TablePath, standard_input, table_path
from batchproof.service.tables.parameters import Parameters

DRIFTED = 1


class UnansweredError(Exception):
    """A question that has no answer; the text is one sentence without its full stop."""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "drift", help="compare the rows of a table with the training rows", description=__doc__
    )
    parser.add_argument("model", type=root, metavar="BUNDLE", help="models/NAME, models/NAME/VERSION, or an address")
    parser.add_argument("input", metavar="FILE",
                        help="a table, a folder of Parquet files, or - for standard input")  # fmt: skip
    parser.add_argument("--on-error", choices=("stop", "row"), default="stop",
                        help="a bad row stops the command, or is left out and counted")  # fmt: skip
    parser.add_argument("--extra", choices=("refuse", "ignore"), default="refuse",
                        help="columns that training did not know: refused, or passed over")  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of one run; 0: one for each core")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare the table with the training rows; returns the exit status."""
    try:
        if options.input == STANDARD_INPUT:
            with standard_input() as path:
                return _compare(options, path)
        return _compare(options, table_path(options.input))
    except ServiceError as error:
        print(behind("batchproof drift", error.message), file=sys.stderr)
    except (SourceError, BundleError, EngineError, UnansweredError, OSError) as error:
        print(f"batchproof drift: {ended(str(error))}", file=sys.stderr)
    return USAGE


def _compare(options: argparse.Namespace, source: TablePath) -> int:
    if options.threads < 0:
        raise UnansweredError("--threads takes a number from 0 up")
    folder = roots.newest(options.model)
    with naming(folder):
        read = bundle.read(folder)
        if read.reference is None:
            raise BundleError("it has no statistics of its training rows (reference.json): train the model again")
        loaded = model.load(read, EngineOptions(device=options.device, threads=options.threads), RUN_ROWS)
    layout = Layout(read.manifest.signature, read.reference)
    counts, bad_rows = _count(
        loaded, layout, source, Parameters(options.extra, "append", options.on_error, asked_in="flags")
    )
    if counts.rows < MIN_ROWS:
        raise UnansweredError(
            f"{source} has {counts.rows} rows: drift can be distinguished from chance only with {MIN_ROWS} rows or more"
        )
    report = assess(layout, counts)
    if options.json:
        named = {"model": read.manifest.name, "version": read.manifest.version, "bad_rows": bad_rows}
        print(json.dumps({**named, "training_rows": read.reference.rows, **report.as_dict()}))
    else:
        _print(report, layout, bad_rows)
    return DRIFTED if report.drifted else 0


def _count(loaded: Model, layout: Layout, source: TablePath, parameters: Parameters) -> tuple[WindowCounts, int]:
    """Return the counts of a table's good rows, and how many bad ones there are."""
    from batchproof.service.tables.block import Reading
    from batchproof.service.tables.writers.result_columns import refusal

    counts, bad_rows = WindowCounts(layout), 0
    reading = Reading(loaded.encoder, parameters, block_rows(len(loaded.encoder.names)))
    with opened_blocks(source, reading) as blocks:
        for block in blocks:
            read = block.read()
            if read.problems and parameters.on_error == "stop":
                raise refusal(block, read.problems, ERROR_LIMIT, parameters)
            bad_rows += block.rows - len(read.kept)
            if len(read.kept):
                counts.add(count(layout, read.arrays, loaded.runner.run([read.arrays])[0]))
    return counts, bad_rows


def _print(report: WindowReport, layout: Layout, bad_rows: int) -> None:
    width = max(len(_shown(one.feature)) for one in report.changes)
    print(f"{'feature':{width}}  {'figure':12}  {'value':>9}  {'threshold':>9}")
    for one in report.changes:
        value, threshold = one.figure
        mark = "  drifted" if one.figure.is_drift else ""
        print(f"{_shown(one.feature):{width}}  {one.kind:12}  {value:9.4f}  {threshold:9.4f}{mark}")
    absent = sum(column is None for column in layout.reference.features)
    if absent:
        print(f"{absent} features have no statistics in the bundle")
    left_out = f" ({bad_rows} bad rows left out)" if bad_rows else ""
    names = report.drifted_names
    result = f"drift in {len(names)}: {', '.join(map(_shown, names))}" if names else "no drift"
    print(f"{report.rows} rows{left_out} beside {layout.reference.rows} of training: {result}")


def _shown(name: str) -> str:
    """Return a feature's name on one line."""
    return name if name.isprintable() else repr(name)
