"""Penguins by the hundred thousand: rows for the engines to cut into partitions."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "penguins" / "1"  # an exact model
ISLANDS = ("Biscoe", "Dream", "Torgersen", "Elsewhere")


def table(rows: int, seed: int = 0) -> pa.Table:
    """Return rows with missing and unseen values, and an id to find them again by."""
    drawn = random.Random(seed)
    columns: dict[str, list[Any]] = {
        "id": list(range(rows)),
        "island": [drawn.choice(ISLANDS) for _ in range(rows)],
        "bill_length_mm": [_maybe(drawn, drawn.uniform(32, 54)) for _ in range(rows)],
        "bill_depth_mm": [_maybe(drawn, drawn.uniform(13, 21)) for _ in range(rows)],
        "flipper_length_mm": [_maybe(drawn, drawn.randint(172, 231)) for _ in range(rows)],
        "body_mass_g": [_maybe(drawn, drawn.randint(2700, 6300)) for _ in range(rows)],
        "sex": [_maybe(drawn, drawn.choice(("female", "male"))) for _ in range(rows)],
    }
    return pa.table(columns)


def _maybe(drawn: random.Random, value: Any) -> Any:
    return None if drawn.random() < 0.05 else value


def same_bits(answer: pa.Table, wanted: pa.Table) -> bool:
    """Return whether every row has the same prediction, bit for bit; the order of rows is the engine's own."""
    names = [name for name in wanted.schema.names if name == "prediction" or name.startswith("probability_")]
    ours, theirs = (part.sort_by("id").combine_chunks() for part in (wanted, answer))
    if ours.num_rows != theirs.num_rows or ours["id"] != theirs["id"]:
        return False
    return all(_bits(ours[name]) == _bits(theirs[name]) for name in names)


def _bits(column: pa.ChunkedArray) -> Any:
    if pa.types.is_floating(column.type):
        return column.to_numpy().tobytes()
    return column.cast(pa.string()).to_pylist()
