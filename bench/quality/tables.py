"""Tables of a folder with a meta.json, split the same way for every method."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split


@dataclass(frozen=True)
class Split:
    """One table, one seed: 60 % train, 20 % validation, 20 % test, stratified for classes."""

    name: str
    seed: int
    task: str  # binary, multiclass or regression
    target: str
    categorical: tuple[str, ...]
    frame: pd.DataFrame  # features only; categorical columns hold strings and None
    y: np.ndarray  # [rows] int64 class codes or float64 values
    train: np.ndarray  # row numbers
    validation: np.ndarray
    test: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes; 0 for regression."""
        return 0 if self.task == "regression" else int(self.y.max()) + 1


def names(folder: Path) -> list[str]:
    """Names of the tables that meta.json lists, small ones first."""
    meta = json.loads((folder / "meta.json").read_text())
    return sorted(meta, key=lambda name: meta[name]["rows"])


def label(folder: Path, name: str, rows: int | None) -> str:
    """Return what a table is called in results: a sample of it has its number of rows behind the name."""
    return (
        name
        if rows is None or rows >= json.loads((folder / "meta.json").read_text())[name]["rows"]
        else f"{name}-{rows}"
    )


def splits(folder: Path, name: str, seeds: list[int], rows: int | None = None) -> Iterator[Split]:
    """Read one table, take a sample of `rows` rows where it has more, the same for every seed, and split it once a seed."""
    meta = json.loads((folder / "meta.json").read_text())[name]
    frame = pd.read_parquet(folder / f"{name}.parquet")
    if rows is not None and rows < len(frame):
        frame = frame.sample(rows, random_state=0, ignore_index=True)
    target = frame.pop(meta["target"])
    for column in meta["categorical"]:
        values = [
            None if missing else str(value) for value, missing in zip(frame[column], frame[column].isna(), strict=True)
        ]
        frame[column] = pd.Series(values, index=frame.index, dtype=object)  # strings and None to every method
    for column in frame.columns.difference(meta["categorical"]):
        frame[column] = frame[column].astype(np.float64)
    regression = meta["task"] == "regression"
    y = target.to_numpy(np.float64) if regression else pd.factorize(target, sort=True)[0].astype(np.int64)
    for seed in seeds:
        strata = None if regression else y
        train, rest = train_test_split(np.arange(len(y)), test_size=0.4, random_state=seed, stratify=strata)
        strata = None if regression else y[rest]
        validation, test = train_test_split(rest, test_size=0.5, random_state=seed, stratify=strata)
        kinds = tuple(meta["categorical"])
        yield Split(
            label(folder, name, rows), seed, meta["task"], meta["target"], kinds, frame, y, train, validation, test
        )
