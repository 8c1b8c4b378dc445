"""Encoded rows: a table that would take much memory in encoded form is encoded when its rows are taken, to the same bits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from batchproof.service.features.arrays import Arrays
from batchproof.training.network import objective, tensors
from batchproof.training.network.tensors import CompactRows, HeldRows, Rows, encode
from batchproof.training.pipeline import train
from batchproof.training.preprocessing.fitting import Encoding, fit
from batchproof.training.settings import make

ROWS = 300


def held(monkeypatch: pytest.MonkeyPatch, most: int) -> HeldRows:
    """Return rows of numbers with missing values, codes and weights; `most` is the least size in bytes that is not kept."""
    drawn = np.random.default_rng(3)
    numeric = drawn.normal(size=(ROWS, 3))
    numeric[drawn.random((ROWS, 3)) < 0.1] = np.nan
    raw, y = Arrays(numeric, drawn.integers(0, 20, (ROWS, 2))), drawn.integers(0, 2, ROWS)
    weight = drawn.random(ROWS).astype(np.float32)
    monkeypatch.setattr(tensors, "EXPANDED_BYTES", most)
    encoding = fit(raw, y, classes=True, encoding=Encoding(onehot_codes=3))
    return encode(encoding, objective.fit("binary", y, 2), raw, y, weight)


def same(one: Rows, other: Rows) -> bool:
    """Return whether two sets of rows have the same bits."""
    pairs = zip(one, other, strict=True)
    return all((a is None and b is None) or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def test_rows_encoded_when_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows have the same bits whether all are encoded at once, a slice, a few of them in any order, or one by one."""
    kept, compact = held(monkeypatch, 1 << 30), held(monkeypatch, 0)
    assert isinstance(kept, Rows)
    assert isinstance(compact, CompactRows)
    index = torch.randperm(ROWS)[:50]
    assert same(kept.take(index), compact.take(index))
    assert same(kept.cut(7, 19), compact.cut(7, 19))
    assert same(kept, compact.cut(0, ROWS))
    assert same(
        kept.take(index), Rows(*map(torch.cat, zip(*(compact.take(i.view(1))[:4] for i in index), strict=True)))
    )
    assert all(torch.equal(kept.codes_of(column), compact.codes_of(column)) for column in range(2))
    losses = torch.ones(ROWS, 2)
    assert torch.equal(kept.weighed(losses), compact.weighed(losses))


def test_rows_on_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that move to another device are encoded there, all of them; on the CPU they stay as they are."""
    compact = held(monkeypatch, 0)
    assert compact.to(torch.device("cpu")) is compact
    moved = compact.to(torch.device("meta"))
    assert isinstance(moved, Rows)
    assert (moved.x.device.type, len(moved.x), len(moved.y)) == ("meta", ROWS, ROWS)


def test_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle has the same files, byte for byte, whether its encoded rows were kept in memory or not."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    drawn = np.random.default_rng(0)
    lines = [
        f"{a},{'uvwxyz'[c]},{'yes' if a + c > 2.5 else 'no'}"
        for a, c in zip(drawn.normal(size=200), drawn.integers(0, 6, 200), strict=True)
    ]
    table = tmp_path / "t.csv"
    table.write_text("a,c,y\n" + "\n".join(lines) + "\n")
    files = []
    for most in (1 << 40, 0):
        monkeypatch.setattr(tensors, "EXPANDED_BYTES", most)
        settings = make(
            {
                "target": "y",
                "models": str(tmp_path / str(most)),
                "memory": f"{most + 1}B",
                "epochs": 2,
                "widths": (8,),
                "ensemble": 2,
                "encoding": "bins",
            }
        )
        written = train(table, settings)
        assert written is not None
        files.append({path.name: path.read_bytes() for path in written.folder.iterdir()})
    assert files[0] == files[1]
