"""Tables that are read through scratch files: the same values and the same bundle as in memory, and nothing left behind."""

import errno
import gzip
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from batchproof.service.runtime import memory as bounds
from batchproof.training.__main__ import main
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.tables import size, storage
from batchproof.training.data.tables.size import arrow_bytes, storage_for
from batchproof.training.data.tables.storage import Scratch, ScratchError, allowed, scratch_folder
from batchproof.training.settings import SettingError, make
from tests.training.quick import quick

ROWS = 400
SMALL, LARGE = "1MB", "1TB"  # of memory: every table is read through scratch files, or none


def frame() -> pa.Table:
    """Return a table with every kind of column, missing values, weights and rows without a target."""
    drawn = np.random.default_rng(5)
    number = drawn.normal(size=ROWS)
    return pa.table(
        {
            "number": pa.array(np.where(drawn.random(ROWS) < 0.1, np.nan, number), from_pandas=True),
            "whole": drawn.integers(0, 40, ROWS),
            "text": pa.array(np.char.add("k", drawn.integers(0, 12, ROWS).astype(str))),
            "coded": pa.array(np.char.add("c", drawn.integers(0, 3, ROWS).astype(str))).dictionary_encode(),
            "day": pa.array(drawn.integers(0, 9999, ROWS).astype("datetime64[D]")),
            "weight": drawn.integers(0, 3, ROWS),
            "y": pa.array(np.where(number > 0, "yes", "no"), mask=drawn.random(ROWS) < 0.02),
        }
    )


def as_csv(folder: Path) -> Path:
    """Write the table as text in two parts."""
    rows = [",".join("" if value is None else str(value) for value in row.values()) for row in frame().to_pylist()]
    (folder / "parts").mkdir()
    for name, part in (("a.csv", rows[:150]), ("b.csv.gz", rows[150:])):
        text = "\n".join([",".join(frame().column_names), *part]).encode()
        (folder / "parts" / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    return folder / "parts"


def as_lines(folder: Path) -> Path:
    """Write the table as JSON Lines."""
    frame().to_pandas().to_json(folder / "t.jsonl", orient="records", lines=True, date_format="iso")
    return folder / "t.jsonl"


def as_parquet(folder: Path) -> Path:
    """Write the table as one Parquet file of several row groups."""
    parquet.write_table(frame(), folder / "t.parquet", row_group_size=90)
    return folder / "t.parquet"


def as_folder(folder: Path) -> Path:
    """Write the table as a folder of Parquet files."""
    (folder / "t").mkdir()
    for start in range(0, ROWS, 150):
        parquet.write_table(frame().slice(start, 150), folder / "t" / f"{start}.parquet")
    return folder / "t"


def as_arrow(folder: Path) -> Path:
    """Write the table as an Arrow file."""
    feather.write_feather(frame(), folder / "t.arrow", chunksize=100)
    return folder / "t.arrow"


WRITERS = [as_csv, as_lines, as_parquet, as_folder, as_arrow]


def facts(data: Dataset) -> list[object]:
    """Return what a fit depends on."""
    arrays = [
        part.tobytes()
        for part in (*data.split, data.target.y, *(a for p in data.arrays.values() for a in p if a is not None))
    ]
    columns = [
        (column.name, column.kind, column.levels, column.values.tobytes(), column.warnings) for column in data.columns
    ]
    return [
        data.table.sha256,
        data.schema,
        data.warnings,
        columns,
        arrays,
        None if data.weight is None else data.weight.tobytes(),
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_same_values(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """A table of any format has the same columns, split and encoded rows through scratch files as in memory."""
    path = write(tmp_path)
    chosen = {"target": "y", "weight": "weight", "skip_missing_target": True, "test": str(path), "memory": LARGE}
    said: list[str] = []
    kept = prepare(path, make(chosen), said.append)
    assert said == []
    mapped = prepare(path, make({**chosen, "memory": SMALL}), said.append)
    assert len(said) == 1
    assert "reading through scratch files" in said[0]
    assert facts(kept) == facts(mapped)


def test_same_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run writes the same bundle, byte for byte, whatever --memory allows."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path, files = as_parquet(tmp_path), []
    for memory in (LARGE, SMALL):
        flags = [
            *quick("y", widths=8, epochs=2),
            "--skip-missing-target",
            "--memory",
            memory,
            "--models",
            str(tmp_path / memory),
        ]
        assert main([str(path), *flags]) == 0
        files.append({each.name: each.read_bytes() for each in (tmp_path / memory / "t" / "1").iterdir()})
    assert files[0] == files[1]
    assert capsys.readouterr().out.count("reading through scratch files") == 1


def test_scratch_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays and blocks in scratch files keep their values, of any type and size, in files that have no names."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(storage, "LEAST_BYTES", 4096)
    scratch = Scratch()
    wanted = [np.arange(count, dtype=kind) for kind in (np.float64, np.int64, np.uint8) for count in (0, 1, 700, 9000)]
    held = [scratch.hold(array) for array in wanted]
    block = frame().combine_chunks().to_batches()[0]
    assert scratch.keep(block) == block
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(wanted, held, strict=True))
    assert all(array.ctypes.data % 8 == 0 for array in held)
    assert list(tmp_path.iterdir()) == []


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that takes long to read says now and then how far it is."""
    monkeypatch.setattr(storage, "SAY_EVERY_S", -1.0)
    said: list[str] = []
    scratch = Scratch(said.append)
    for batch in frame().to_batches(100):
        scratch.keep(batch)
    assert said == [f"reading: {rows} rows so far" for rows in (100, 200, 300, 400)]


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk without room for scratch files ends the run with one sentence, exit code 1 and no bundle."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    flags = [*quick("y", widths=8, epochs=1), "--memory", SMALL, "--models", str(tmp_path / "models")]
    assert main([str(as_parquet(tmp_path)), *flags]) == 1
    sentence = capsys.readouterr().err
    assert "the scratch files in " in sentence
    assert "No space left on device" in sentence
    assert "set TMPDIR to a folder with more room, or --memory to more." in sentence
    assert not (tmp_path / "models" / "t" / "1").exists()


def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scratch files are in TMPDIR, or else in /var/tmp, or where temporary files are; a folder that is not there is named."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    with pytest.raises(
        ScratchError,
        match=r"absent \(No such file or directory\): set TMPDIR to a folder .* that exists and can be written to",
    ):
        Scratch().empty((1,), np.float64)
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(storage, "LASTING", str(tmp_path))
    assert scratch_folder() == tmp_path
    monkeypatch.setattr(storage, "LASTING", str(tmp_path / "absent"))
    assert scratch_folder() == Path(tempfile.gettempdir())


def test_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is in memory where three times its tables fit, by default into half of what the machine has, or are small."""
    path = as_parquet(tmp_path)
    monkeypatch.setattr(size, "OWN_BYTES", 0)
    monkeypatch.setattr(size, "SMALL_BYTES", 0)
    monkeypatch.setattr(bounds, "limit_bytes", lambda: 2 * need)
    need = 3 * arrow_bytes(path)
    assert 8 * ROWS * 6 <= arrow_bytes(path) <= 8 * ROWS * 20
    assert not isinstance(storage_for([path], None, print), Scratch)
    assert storage_for([path], f"{need + 7}B", print).room_bytes == 7
    need -= 1
    assert isinstance(storage_for([path], None, print), Scratch)
    assert isinstance(storage_for([path, path], f"{need + 1}B", print), Scratch)
    monkeypatch.setattr(size, "SMALL_BYTES", need + 1)
    assert not isinstance(storage_for([path], None, print), Scratch)
    assert isinstance(storage_for([path], f"{need}B", print), Scratch)
    assert allowed("2GiB") == 2**31
    assert arrow_bytes(tmp_path / "absent.csv") == 0


def test_setting() -> None:
    """A bad size is refused with the settings, before the table is read."""
    with pytest.raises(
        SettingError, match=r"'4 pounds' is no size of memory: write a number and its unit, such as 4GB"
    ):
        make({"target": "y", "memory": "4 pounds"})


OWN_MEMORY = """
import re, sys, threading, time
from pathlib import Path
import pyarrow.parquet
from batchproof.training.data.tables.storage import Scratch
from batchproof.training.data.tables.table import read

def own():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def watch():
    while True:
        seen.append(own())
        time.sleep(0.005)

seen = [own()]
threading.Thread(target=watch, daemon=True).start()
table = read(Path(sys.argv[1]), Scratch(lambda line: None, 0)).arrow
print((max(seen) - seen[0]) / table.nbytes)
"""


@pytest.mark.parametrize("groups", [1, 8])
def test_parquet_is_read_piece_by_piece(tmp_path: Path, groups: int) -> None:
    """Scratch files get a table of which no large part is in memory with them: no whole file, and no whole row group."""
    rows, drawn = 1 << 21, np.random.default_rng(0)
    table = pa.table({f"c{place}": drawn.normal(size=rows) for place in range(8)})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=rows // groups)
    command = [sys.executable, "-c", OWN_MEMORY, str(tmp_path / "t.parquet")]
    share = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert share < 1, share  # some 80 MB, whatever the table's size; it was 1.6 with whole row groups
