"""Trees of LightGBM and the columns that they split on: how they are grown, and how both servers read rows for them.

    python trees.py FOLDER 100 1000

grows 100 and 1000 trees on the arrays of FOLDER/train.npz (x [rows, columns] float64, y [rows], categorical [columns]
bool), writes FOLDER/trees_100.txt and so on, and beside each what the booster predicts in this process for FOLDER/asked.npy.
FOLDER/columns.json lists the features in the order of a positional row: name, kind, value_type, categories, and place in x.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np


def grow(folder: Path, count: int) -> None:
    """Grow and write `count` trees with LightGBM's defaults and one thread, and their answers for the rows asked about."""
    given = np.load(folder / "train.npz")
    wanted = given["y"]
    classes = 0 if wanted.dtype.kind == "f" else int(wanted.max()) + 1
    objective = "regression" if not classes else "binary" if classes == 2 else "multiclass"
    chosen = {"objective": objective, "num_threads": 1, "verbosity": -1, "seed": 0}
    if classes > 2:
        chosen["num_class"] = classes
    places = np.flatnonzero(given["categorical"]).tolist()
    data = lightgbm.Dataset(given["x"], wanted, categorical_feature=places)
    booster = lightgbm.train(chosen, data, count)
    booster.save_model(folder / f"trees_{count}.txt")
    np.save(folder / f"answers_{count}.npy", booster.predict(np.load(folder / "asked.npy"), num_threads=1))


class Forest:
    """The trees of PEER_FOREST, PEER_TREES of them, and the way from a row's values to the numbers that they take."""

    def __init__(self) -> None:
        folder, count = Path(os.environ["PEER_FOREST"]), os.environ["PEER_TREES"]
        self._booster = lightgbm.Booster(model_file=folder / f"trees_{count}.txt")
        self.columns = json.loads((folder / "columns.json").read_text())
        self.names = [column["name"] for column in self.columns]
        self._places = [column["place"] for column in self.columns]
        self._readers = [_reader(column) for column in self.columns]

    def predict(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the predictions of rows whose values stand in the order of `names`."""
        x = np.empty((len(rows), len(self._places)))
        for place, read, values in zip(self._places, self._readers, zip(*rows, strict=True), strict=True):
            x[:, place] = [read(value) for value in values] if read else values
        return self._booster.predict(x, num_threads=1).tolist()


def _reader(column: Mapping[str, Any]) -> Callable[[Any], float] | None:
    """Return how a value becomes a number; None for numbers, which NumPy takes as they are (None becomes NaN)."""
    if column["kind"] == "date":
        return _seconds
    if column["kind"] != "categorical":
        return None
    text = str if column["value_type"] == "integer" else lambda value: str(value).lower()
    codes = {category: float(code) for code, category in enumerate(column["categories"])}
    missing, unseen = float(len(codes)), float(len(codes) + 1)
    if column["value_type"] == "string":
        codes_or_missing: dict[str | None, float] = {**codes, None: missing}
        return lambda value: codes_or_missing.get(value, unseen)
    return lambda value: missing if value is None else codes.get(text(value), unseen)


def _seconds(value: str | None) -> float:
    if value is None:
        return float("nan")
    read = datetime.fromisoformat(value)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


if __name__ == "__main__":
    for number in sys.argv[2:]:
        grow(Path(sys.argv[1]), int(number))
