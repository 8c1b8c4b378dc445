"""How large a table is in Arrow's form is known before it is read, whatever its file is packed with."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from batchproof.training.data.tables.size import SAMPLES, arrow_bytes, spread
from batchproof.training.data.tables.table import read

ROWS = 24_000


def frame(rows: int = ROWS) -> pa.Table:
    """Return a table whose long texts occur often, which every packing and every dictionary makes small."""
    drawn = np.random.default_rng(5)
    texts = np.asarray([f"{number}" * 300 for number in range(5)])
    return pa.table({"text": texts[drawn.integers(0, 5, rows)], "flag": drawn.integers(0, 2, rows)})


def csv(rows: int = ROWS) -> bytes:
    """Return the table as CSV."""
    columns = frame(rows).to_pydict()
    return "\n".join(["text,flag", *(f"{text},{flag}" for text, flag in zip(*columns.values(), strict=True))]).encode()


def lines() -> bytes:
    """Return the table as JSON Lines."""
    columns = frame().to_pydict()
    rows = zip(*columns.values(), strict=True)
    return "\n".join(f'{{"text": "{text}", "flag": {flag}}}' for text, flag in rows).encode()


def zstd(path: Path, content: bytes) -> None:
    """Write a file packed with Zstandard."""
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(content)


def as_folder(path: Path) -> None:
    """Write the table as many Parquet files, of which the estimate looks at some."""
    path.mkdir()
    for start in range(0, ROWS, ROWS // 20):
        parquet.write_table(frame().slice(start, ROWS // 20), path / f"{start:06}.parquet")


def as_stream(path: Path) -> None:
    """Write the table as an Arrow stream of packed blocks."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(path, frame().schema, options=options) as writer:
        writer.write_table(frame(), 1_000)


WRITERS: dict[str, Callable[[Path], object]] = {
    "t.parquet": lambda path: parquet.write_table(frame(), path, row_group_size=3_000),
    "coded.parquet": lambda path: parquet.write_table(
        frame().set_column(0, "text", frame()["text"].dictionary_encode()), path
    ),
    "folder": as_folder,
    "t.feather": lambda path: feather.write_feather(frame(), path, compression="zstd", chunksize=2_000),
    "t.arrows": as_stream,
    "t.csv": lambda path: path.write_bytes(csv()),
    "t.csv.gz": lambda path: path.write_bytes(gzip.compress(csv())),
    "t.csv.zst": lambda path: zstd(path, csv()),
    "t.jsonl": lambda path: path.write_bytes(lines()),
    "t.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines())),
    "t.jsonl.zst": lambda path: zstd(path, lines()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_repeated_long_texts_count_as_often_as_they_occur(tmp_path: Path, name: str) -> None:
    """The estimate is what Arrow holds, or up to 2.2 times that where cells become texts: the file may be a hundred times smaller."""
    path = tmp_path / name
    WRITERS[name](path)
    actual = read(path).arrow
    plain = sum(
        c.cast(c.type.value_type).nbytes if pa.types.is_dictionary(c.type) else c.nbytes for c in actual.columns
    )
    assert plain >= 300 * ROWS
    assert 0.98 <= arrow_bytes(path) / plain <= 2.2


def test_short_cells_count_as_numbers(tmp_path: Path) -> None:
    """A cell of one digit takes 8 bytes as a number, whatever it takes in the file."""
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,b,c,d", *["0,1,0,1"] * 5_000]))
    assert arrow_bytes(path) == pytest.approx(8 * 4 * 5_000, rel=0.01)


def test_tables_that_cannot_be_read_have_no_size(tmp_path: Path) -> None:
    """What is wrong with a file is for its reader to say."""
    for name in ("t.parquet", "t.arrow", "t.arrows", "t.csv.gz", "t.csv.zst"):
        (tmp_path / name).write_bytes(b"no table")
        assert arrow_bytes(tmp_path / name) == 0, name
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(csv(2_000))[:-20])
    assert arrow_bytes(tmp_path / "cut.csv.gz") == 0
    (tmp_path / "empty.csv").write_bytes(b"")
    assert arrow_bytes(tmp_path / "empty.csv") == 0


def test_samples_are_spread_over_the_table() -> None:
    """Few blocks are all looked at, many from the first to the last."""
    assert list(spread(3)) == [0, 1, 2]
    assert len(spread(1_000)) == SAMPLES
    assert spread(1_000)[0] == 0
    assert spread(1_000)[-1] == 999
