"""Tables in parts: a folder or a pattern of files is one table, and a file that does not belong to it is refused by name."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pytest
from pyarrow import parquet

from batchproof.service.configuration.address import Address
from batchproof.service.stores import object_path
from batchproof.training.data.dataset import prepare
from batchproof.training.data.tables.local_table import local_table
from batchproof.training.data.tables.parts import model_name
from batchproof.training.data.tables.table import read
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.settings import make


def write(folder: Path, **files: str) -> Path:
    """Write files whose endings follow a double underscore: `one__csv` is one.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return folder


def test_text_parts(tmp_path: Path) -> None:
    """Text files of a folder are one table in the order of their names, whatever their separators, packing and order of columns."""
    folder = write(
        tmp_path / "t", b__csv="y;x\n5;1\n6;2\n", c__csv__gz="x,y\n3,7\n", a__csv="x,y\n0,4\n", _note__txt="no"
    )
    for path in (folder, folder / "*.csv*", folder / "*"):
        table = read(path)
        assert table.arrow.to_pydict() == {"x": ["0", "1", "2", "3"], "y": ["4", "5", "6", "7"]}
        assert [table.place(row) for row in range(4)] == [
            "line 2 of a.csv",
            "line 2 of b.csv",
            "line 3 of b.csv",
            "line 2 of c.csv.gz",
        ]
    assert read(folder / "*.csv*").sha256 == read(folder).sha256 != read(folder / "[ab].csv").sha256


def test_json_parts(tmp_path: Path) -> None:
    """JSON Lines in parts have the types that one file with all lines would have."""
    values = [1, 2.5, None, 2**70, 3], ["a", None, None, "b", "c"], [True, None, False, None, None]
    lines = [json.dumps(dict(zip("nsb", row, strict=True))) for row in zip(*values, strict=True)]
    whole = write(tmp_path, all__jsonl="\n".join(lines)) / "all.jsonl"
    parts = write(tmp_path / "t", **{f"p{i}__jsonl": line for i, line in enumerate(lines)})
    assert read(parts).arrow.combine_chunks() == read(whole).arrow.combine_chunks()
    assert read(parts).place(3) == "line 1 of p3.jsonl"
    mixed = write(tmp_path / "mixed", a__jsonl='{"m": 1}', b__jsonl='{"m": "x"}')
    assert read(mixed).unusable == {"m": "it holds numbers and texts"}


def test_parquet_pattern(tmp_path: Path) -> None:
    """A pattern of Parquet files is one table, and folders named column=value below its fixed folder are a column."""
    for year in (2023, 2024, 2025):
        (tmp_path / f"year={year}").mkdir()
        parquet.write_table(pa.table({"x": [year * 10]}), tmp_path / f"year={year}" / "part.parquet")
    assert read(tmp_path / "year=202[45]" / "*.parquet").arrow.to_pydict() == {
        "x": [20240, 20250],
        "year": [2024, 2025],
    }


@pytest.mark.parametrize(
    "files, pattern, sentence",
    [
        (
            {"a__csv": "x,y\n1,2\n", "b__csv": "x,z\n1,2\n"},
            "",
            r"b.csv and .*a.csv have different columns: it lacks 'y' and it also has 'z'",
        ),
        (
            {"a__csv": "x,y\n1,2\n", "b__csv": "x,y,y\n1,2,3\n"},
            "",
            r"b.csv and .*a.csv have different columns: a column occurs ",
        ),
        (
            {"a__csv": "x,y\n1,2\n", "b__csv": "x,y\n1\n"},
            "*.csv",
            r"line 2 of .*b.csv has 1 cells, but there are 2 columns\.",
        ),
        ({"a__csv": "x,y\n1,2\n", "b__csv": 'x,y\n1,"2\n'}, "", r"^[^:]*b.csv: "),
        ({"a__jsonl": '{"x": 1}', "b__jsonl": '{"y": 1}'}, "", r"line 1 of .*b.jsonl has no key 'x'"),
        (
            {"a__jsonl": '{"x": 1}', "b__jsonl": '{"x": 1, "y": 1}'},
            "",
            r"has the key 'y', which the first line of .*a.jsonl lacks",
        ),
        (
            {"a__csv": "x\n1\n", "b__jsonl": '{"x": 1}'},
            "",
            r"of several formats, such as 'a.csv', 'b.jsonl': name those of one",
        ),
        ({"a__csv": "x\n1\n", "b__csv__bz2": "x\n1\n"}, "", r"b.csv.bz2 has the ending '.bz2'.* Name the parts"),
        (
            {"a__arrow": "x", "b__arrow": "x"},
            "*.arrow",
            r"means 2 Arrow files: a table in parts is CSV, JSON Lines or Parquet\.",
        ),
        ({"a__csv": "x,y\n1,2\n"}, "b*.csv", r"no file matches .*b\*\.csv\."),
        ({"a__csv": "", "b__csv": ""}, "", r"t is empty\."),
        ({"_a__csv": "x\n1\n"}, "", r"is a folder without files: a table is a file, or a folder of its parts\."),
    ],
)
def test_refusals(tmp_path: Path, files: dict[str, str], pattern: str, sentence: str) -> None:
    """Parts that are not one table are refused in a sentence that names the file."""
    with pytest.raises(TableError, match=sentence):
        read(write(tmp_path / "t", **files) / pattern)


def test_folders_below(tmp_path: Path) -> None:
    """Text files in folders below are read only where a pattern names them: none is passed over in silence."""
    write(tmp_path / "t", a__csv="x\n1\n")
    write(tmp_path / "t" / "deep", b__csv="x\n2\n")
    with pytest.raises(TableError, match=r"deep/b.csv is in a folder below it: name the parts .*/\*\*/\*\.csv'"):
        read(tmp_path / "t")
    assert read(tmp_path / "t" / "**" / "*.csv").arrow.to_pydict() == {"x": ["1", "2"]}


def test_empty_part(tmp_path: Path) -> None:
    """A part of no bytes has no rows, and a warning says so."""
    table = read(write(tmp_path / "t", a__csv="", b__csv="x\n1\n"))
    assert (table.arrow.num_rows, table.warnings) == (1, ("a.csv is empty: no row is read from it.",))


def test_places_after_rows_are_left_out(tmp_path: Path) -> None:
    """A refusal names the file and line of a row although rows before it were left out, in a test file too."""
    rows = "".join(f"{i},{i % 2}\n" for i in range(20))
    folder = write(tmp_path / "t", a__csv="x,y\n1,\n" + rows, b__csv="x,y\n" + rows)
    test = write(tmp_path, test__csv="x,y,w\n1,0,1\n") / "test.csv"
    table = read(folder)
    left = table.without(np.arange(41) == 0, "no target")
    assert (left.place(0), left.place(20)) == ("line 3 of a.csv", "line 2 of b.csv")
    both = table.extended(pa.concat_tables([table.arrow, read(test).arrow.select(["x", "y"])]), read(test))
    assert both.place(41) == "line 2 of test.csv"
    with pytest.raises(TableError, match=r"the target 'y' has no finite value in line 2 of a.csv"):
        prepare(folder, make({"target": "y"}))


def test_model_name() -> None:
    """A model is called after its file or folder, and after the folder that a pattern names in full."""
    named = {
        "in/sales.csv.gz": "sales",
        "in/sales": "sales",
        "in/part-*.csv": "in",
        "in/*/x.csv": "in",
        "part-*.csv": "part-*",
    }
    assert {path: model_name(Path(path)) for path in named} == named


@pytest.mark.parametrize("rest", ["rows", "rows/p?.csv"])
def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    """Parts in an object store, below a name or behind a pattern, are copied for the run and read as those of a folder."""
    write(tmp_path / "bucket" / "rows", p1__csv="x\n1\n", p2__csv="x\n2\n")
    bucket = pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem())
    monkeypatch.setattr(object_path, "opened", lambda _: bucket)
    with local_table(Address("s3", f"bucket/{rest}")) as path:
        table = read(path)
        assert (table.arrow.to_pydict(), table.place(1)) == ({"x": ["1", "2"]}, "line 2 of p2.csv")
        assert model_name(path) == "rows"
    assert not path.parent.exists()
