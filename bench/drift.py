"""How often drift is called where nothing changed, and how often it is found where something did, on real tables.

    python -m bench.drift DATA [--only adult,diamonds,california] [--windows 3000] [--epochs 1]

DATA holds Parquet files and meta.json with {"<table>": {"target": ...}}. A table is shuffled again and again: some rows
are those of training, whose signature and statistics are made as training makes them, and windows come from the others,
which is what a service meets where nothing changed. For the predictions one model is trained briefly on half of the table,
and its outputs for the other half are shuffled in the same way. In the windows of each first shuffle every column is then
changed, one at a time, and whether its own figures find it is counted: numbers and dates move by half a standard deviation;
of numbers, dates and categories a twentieth goes beyond the training range, or to a category that training did not have.

Exit status 1 where more windows than 1 in 1 000 have a false alarm.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.rows.reference import Column, Reference, column_for
from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.drift.counts import Layout, WindowCounts, count
from batchproof.service.drift.report import FALSE_ALARMS, OUT_OF_RANGE, PSI, UNSEEN, assess
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.training.data import schema as schemas
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.export.reference import feature_entries, prediction_entry
from batchproof.training.fit.progress import Silent
from batchproof.training.pipeline import fit
from batchproof.training.settings import make

RARE_ROWS = 5
HOUR_ROWS, HOURS = 1000, 4  # rows of a small window, and how many there are in one shuffle
DAY_ROWS = 10_000  # of the large one, at most
CHANGED_SHUFFLES = 10  # in which every column is changed
HEAD = (
    f"{'table':12} {'windows':>8} {'figures':>9} {'alarms':>7} {'moved found':>12} {'foreign found':>14} {'seconds':>8}"
)


class Tried(NamedTuple):
    """What became of the windows of one table."""

    windows: int
    figures: int
    alarms: int  # windows in which any figure passed its threshold
    moved: tuple[int, int]  # columns changed so, and those found
    foreign: tuple[int, int]


def main() -> int:
    """Print one line a table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DATA")
    parser.add_argument("--only", default="adult,diamonds,california", help="names of tables, separated by commas")
    parser.add_argument("--windows", type=int, default=3000, help="of each table (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=1, help="of the model whose predictions are compared")
    given = parser.parse_args()
    targets = json.loads((given.folder / "meta.json").read_text())
    print(HEAD, flush=True)
    held = []
    for name in given.only.split(","):
        start_s = time.monotonic()
        tried = measure(given.folder / f"{name}.parquet", targets[name]["target"], given.windows, given.epochs)
        shown = [f"{found} of {changed}" for changed, found in (tried.moved, tried.foreign)]
        print(
            f"{name:12} {tried.windows:8} {tried.figures:9} {tried.alarms:7} {shown[0]:>12} {shown[1]:>14} "
            f"{time.monotonic() - start_s:8.0f}",
            flush=True,
        )
        held.append(tried.alarms <= FALSE_ALARMS * tried.windows)
    return int(not all(held))


def measure(path: Path, target: str, windows: int, epochs: int) -> Tried:
    """Shuffle one table until there were so many windows."""
    chosen_by = {"epochs": epochs, "ensemble": 1, "widths": [64], "test_share": 0.5}
    settings = make({"target": target, "rare_rows": RARE_ROWS, **chosen_by})
    data = prepare(path, settings)
    outputs = fit(data, settings, Silent()).run(data.arrays["test"])  # rows that the model did not learn from
    random = np.random.default_rng(0)
    sums = np.zeros(7, np.int64)
    number = 0
    while sums[0] < windows:
        sums += shuffle(data, outputs, random, is_changed=number < CHANGED_SHUFFLES)
        number += 1
    return Tried(*sums[:3].tolist(), (int(sums[3]), int(sums[4])), (int(sums[5]), int(sums[6])))


def shuffle(data: Dataset, outputs: Outputs, random: np.random.Generator, *, is_changed: bool) -> list[int]:
    """Return windows, figures, alarms, and the columns that were changed and found, of one shuffle."""
    rows = random.permutation(len(data.target.y))
    train, fresh = rows[: len(rows) // 2], rows[len(rows) // 2 :][: HOURS * HOUR_ROWS + DAY_ROWS]
    signature = schemas.infer(data.columns, data.target, train, rare_rows=RARE_ROWS, keep=()).signature
    predicted = random.permutation(len(next(iter(outputs.values()))))
    layout = layout_of(signature, schemas.encode(signature, data.columns, train), chosen(outputs, predicted[::2]))
    arrays, answered = schemas.encode(signature, data.columns, fresh), chosen(outputs, predicted[1::2])
    sums = [0] * 7
    for part in parts(len(fresh)):
        window, own = arrays.take(part), chosen(answered, np.arange(part.start, part.stop) % len(predicted[1::2]))
        report = assess(layout, count(layout, window, own))
        sums = [
            sum(pair) for pair in zip(sums, (1, len(report.changes), bool(report.drifted), 0, 0, 0, 0), strict=True)
        ]
        if is_changed:
            for at, is_found in found(layout, window, random):
                sums[at] += 1
                sums[at + 1] += is_found
    return sums


def parts(rows: int) -> Iterator[slice]:
    """Yield the small windows, and a large one of what is left."""
    for hour in range(HOURS):
        if (hour + 1) * HOUR_ROWS <= rows:
            yield slice(hour * HOUR_ROWS, (hour + 1) * HOUR_ROWS)
    begin = HOURS * HOUR_ROWS
    if rows - begin >= 2 * HOUR_ROWS:
        yield slice(begin, min(rows, begin + DAY_ROWS))


def chosen(outputs: Outputs, rows: np.ndarray) -> Outputs:
    """Return the outputs of some rows."""
    return {name: values[rows] for name, values in outputs.items()}


def layout_of(signature: Signature, train: Arrays, outputs: Outputs) -> Layout:
    """Return what a bundle's statistics would be, without a bundle."""
    features = tuple(
        None if entry is None else column_for(feature, np.array(entry["counts"]), splits(feature, entry))
        for feature, entry in zip(signature.inputs, feature_entries(signature, train, RARE_ROWS), strict=True)
    )
    rows = next(len(array) for array in train if array is not None)
    return Layout(signature, Reference(rows, RARE_ROWS, features, (predictions(signature, outputs),)))


def splits(feature: Feature, entry: dict[str, list[float]]) -> np.ndarray:
    """Return the codes or the edges of an entry."""
    return np.array(entry["codes"], np.int64) if feature.kind == "categorical" else np.array(entry["edges"], np.float64)


def predictions(signature: Signature, outputs: Outputs) -> Column:
    """Return the column of the predictions."""
    entry = prediction_entry(signature, outputs)
    assert entry is not None, "there are outputs"
    counts = np.array(entry["counts"])
    if signature.classes is None:
        return Column(counts, np.array(entry["edges"], np.float64), None)
    return Column(counts, None, np.array(entry["codes"], np.int64), len(signature.classes))


def found(layout: Layout, window: Arrays, random: np.random.Generator) -> Iterator[tuple[int, bool]]:
    """Change one column after the other; yield where its change is counted, and whether its own figures found it."""
    for place, feature in enumerate(layout.signature.inputs):
        if feature.kind != "categorical":
            yield 3, is_found(layout, moved(layout, window, place), feature, PSI)
        yield (
            5,
            is_found(
                layout,
                foreign(layout, window, place, random),
                feature,
                UNSEEN if feature.categories is not None else OUT_OF_RANGE,
            ),
        )


def is_found(layout: Layout, window: Arrays, feature: Feature, kind: str) -> bool:
    """Return whether a figure of this kind of the feature passes its threshold."""
    counts: WindowCounts = count(layout, window, None)
    return any((one.feature, one.kind) == (feature.name, kind) for one in assess(layout, counts).drifted)


def moved(layout: Layout, window: Arrays, place: int) -> Arrays:
    """Return the window with half a standard deviation added to a number."""
    _, column = layout.columns[place]
    assert window.numeric is not None, "the feature is a number"
    numeric = window.numeric.copy()
    numeric[:, column] += 0.5 * np.nanstd(numeric[:, column])
    return window._replace(numeric=numeric)


def foreign(layout: Layout, window: Arrays, place: int, random: np.random.Generator) -> Arrays:
    """Return the window with a twentieth of a column's values beyond what training had."""
    feature = layout.signature.inputs[place]
    is_code, column = layout.columns[place]
    matrix = window.categorical if is_code else window.numeric
    assert matrix is not None, "the feature's matrix is there"
    changed = matrix.copy()
    rows = random.permutation(len(changed))[: len(changed) // 20]
    changed[rows, column] = feature.unseen_code if is_code else (feature.range or (0.0, 0.0))[1] * 2 + 1e12
    return window._replace(**{"categorical" if is_code else "numeric": changed})


if __name__ == "__main__":
    raise SystemExit(main())
