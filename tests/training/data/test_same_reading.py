"""Training and scoring read every table to the same arrays: every spelling, structure, kind of file and rule."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypotheses
from hypothesis import strategies as st
from pyarrow import feather, ipc, parquet

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.tables.block import Blocks, Reading
from batchproof.service.tables.offline.score import opened_blocks
from batchproof.service.tables.parameters import Parameters
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.tables import lines
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.settings import Settings

ROWS = 60
NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)


@contextmanager
def scored(data: Dataset, path: Path) -> Iterator[Blocks]:
    reading = Reading(Encoder(data.signature), Parameters(), 7)
    with opened_blocks(path, reading) as blocks:
        yield blocks


def check_alike(path: Path, **settings: Any) -> Dataset:
    """Train on a table, score the very table without a flag, and hold the arrays of both to each other."""
    data = prepare(path, Settings(target="y", rare_rows=1, **settings))
    with scored(data, path) as blocks:
        read = [block.read() for block in blocks]
    assert [problem for result in read for problem in result.problems] == []
    for kind in ("numeric", "categorical"):
        parts = [getattr(result.arrays, kind) for result in read]
        for part in ("train", "validation", "test"):
            trained = getattr(data.arrays[part], kind)
            if trained is None:
                assert parts[0] is None
            else:
                np.testing.assert_array_equal(np.concatenate(parts)[getattr(data.split, part)], trained)
    return data


def text_table(cells: list[str], name: str = "a") -> str:
    """Return a CSV table with the cells, repeated, beside a plain column and the target."""
    rows = [f"{cells[row % len(cells)]},{row * 0.5},{row % 7 + row / 100}" for row in range(ROWS)]
    return "\n".join([f"{name},x,y", *rows]) + "\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def feature_of(data: Dataset, name: str = "a") -> Feature:
    return next(feature for feature in data.signature.inputs if feature.name == name)


SPELLINGS = {
    "plain": (["1", "2.5", "-3"], "numeric"),
    "exponents": (["1e3", "2.5E-2", "+4", ".5", "5."], "numeric"),
    "blanks": ([" 1", "2 ", "\t3 ", "4"], "numeric"),
    "hexadecimal": (["0x1A", "0X1b", "3", "-0xff"], "numeric"),
    "infinities": (["inf", "-Infinity", "+INF", "1e999", "2.5", "3"], "numeric"),
    "beyond float64": (["1e999", "2.5", "3"], "numeric"),
    "NaN": (["nan", "-NaN", "NAN", "nan(ind)", "nan(0x1)", "2.5", "3"], "numeric"),
    "missing": (["", "NA", "N/A", "null", "None", "?", "#N/A", "2", "3"], "numeric"),
    "underscores": (["1_000", "2_000", "3"], "categorical"),
    "other digits": (["\uff11", "\uff12", "3"], "categorical"),
    "booleans": (["true", "FALSE", "True", ""], "numeric"),
    "booleans and bits": (["true", "0", "1", "false"], "numeric"),
    "text": (["a", "b", "c d", "NA", "Ærø"], "categorical"),
    "text and blanks": (["a", " a", "b "], "categorical"),
    "all blanks": ([" a ", " b", "c "], "categorical"),
    "quoted": (['"a"', '"b, c"', '"d ""e"""', "f"], "categorical"),
    "quoted numbers": (['"1"', '"2.5"', '" 3 "'], "numeric"),
    "lines in cells": (['"a\nb"', '"c\rd"', '"e\r\nf"', "g"], "categorical"),
    "long cells": (["a" * 100_000, "b"], "categorical"),
    "leading zeros": (["007", "011", "2"], "numeric"),
    "wide integers": (["9007199254740993", "18446744073709551617", "1"], "numeric"),
    "dates": (["2020-01-31", "2024-02-29T12:30:00Z", "1960-05-05 01:02:03.25+01:00", ""], "date"),
    "dates and blanks": (["2020-01-31 ", " 2024-02-29", "?"], "date"),
    "year first": (["2012/01/31", "2013/12/01"], "date"),
    "month first": (["12/31/20", "01/02/21", ""], "date"),
    "day first": (["31.12.2020", "1.2.2021 "], "date"),
    "month names": (["Jan 1 2000", "December 31 1999", "may 5 2020"], "date"),
    "months": (["Mar-2018", "Dec-2019"], "date"),
    "zones": (["2020-07-27 17:27:43 UTC", "2020-07-28 01:02:03 GMT"], "date"),
    "halves": (["12/31/2020 11:59 PM", "1/2/2021 12:01 AM"], "date"),
    "zero dates": (["2020-01-31", "0000-00-00", "2021-01-31"], "date"),
    "words among dates": (["2020-01-31", "unknown", "n.a."], "date"),
    "times of day": (["12:30", "08:15", ""], "categorical"),
    "words among numbers": (["1", "2.5", "unknown", "-", "n.a.", ".", "?"], "numeric"),
    "currency": (["$1,200.50", "$75.11", "-$3", "$0.5"], "numeric"),
    "percent": (["63.7%", "12 %", "-1.5%"], "numeric"),
    "area": (["11,275.5 sqft", "950 sqft"], "numeric"),
    "decimal commas": (['"3,14"', '"2,5"', "7"], "numeric"),
    "both separators": (['"1.234,5"', '"12,25"', "7"], "numeric"),
    "grouped": (['"1,234,567"', "7", '"12,000"'], "numeric"),
    "blank groups": (["1 234,5", "7", "1\u00a0234"], "numeric"),
    "codes": (["A1", "B2", "C3"], "categorical"),
    "phone": (["+49 170 1234567", "0170-123"], "categorical"),
}


@pytest.mark.parametrize("cells, kind", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings(tmp_path: Path, cells: list[str], kind: str) -> None:
    """Whatever a column's cells are, what trains can be scored as it is, to the same numbers and codes."""
    quoted = [f'"{cell}"' if "," in cell and '"' not in cell else cell for cell in cells]
    data = check_alike(write(tmp_path / "t.csv", text_table(quoted)))

    assert feature_of(data).kind == kind


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_structures(tmp_path: Path, end: str, delimiter: str) -> None:
    """Line ends, separators, a byte order mark and blank lines mean the same on both sides."""
    text = text_table(["a", "b", ""]).replace(",", delimiter).replace("\n", end)
    data = check_alike(write(tmp_path / "t.csv", "\ufeff" + end + text.replace(end, end + end, 3)))

    assert [feature.name for feature in data.signature.inputs] == ["a", "x"]
    assert len(data.target.y) == ROWS


def test_mixed_line_ends(tmp_path: Path) -> None:
    """A table may change its line ends: every line is a row."""
    head, *rows = text_table(["1", "2"]).splitlines()
    ends = ["\n", "\r\n", "\r"]
    text = head + "\r" + "".join(row + ends[place % 3] for place, row in enumerate(rows))

    assert len(check_alike(write(tmp_path / "t.csv", text)).target.y) == ROWS


def test_blanks_after_commas(tmp_path: Path) -> None:
    """`age, sex` names the columns age and sex, and cells are read without the blanks in front of them."""
    rows = "".join(f"{row % 9}, {'male' if row % 3 else 'female'}, {row}\n" for row in range(ROWS))
    data = check_alike(write(tmp_path / "t.csv", "age, sex, y\n" + rows))

    assert [feature.name for feature in data.signature.inputs] == ["age", "sex"]
    assert feature_of(data, "sex").categories == ("female", "male")
    (row,) = Encoder(data.signature).encode_rows([{"age": 3, "sex": "male"}]).arrays.categorical or ()
    assert row.tolist() == [1]


def test_quotes_after_blanks(tmp_path: Path) -> None:
    """Where a blank follows every comma of the header, a quote behind it opens a cell as any other does."""
    rows = "".join(f'{row % 9}, "a, ""{row % 3}""", {row}\n' for row in range(ROWS))
    data = check_alike(write(tmp_path / "t.csv", "age, word, y\n" + rows))

    assert feature_of(data, "word").categories == ('a, "0"', 'a, "1"', 'a, "2"')


@pytest.mark.parametrize(
    "text, sentence",
    [
        ('a,x,y\n1,2,3\n1,"2,3\n4,5,6\n7,"8,9\n', "line 3 is not CSV in UTF-8: text follows a closing quote"),
        ('a,x,y\n1,"2"z,3\n', "line 2 is not CSV in UTF-8: text follows a closing quote"),
        ('a,x,y\n1,2,3\n1,"2,3\n', "line 3 is not CSV in UTF-8: a quote is opened and never closed"),
        (f"a,x,y\n1,{'b' * 140_000},3\n", "line 2 is not CSV in UTF-8: a cell has more than 131072 characters"),
    ],
)
def test_what_is_refused_is_refused_on_both_sides(tmp_path: Path, text: str, sentence: str) -> None:
    """A stray quote, text behind a closing quote and a cell without end are refused by their line, and no row is lost."""
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(TableError) as refused:
        prepare(path, Settings(target="y"))
    assert sentence in str(refused.value)

    data = prepare(write(tmp_path / "good.csv", text_table(["1", "2"])), Settings(target="y"))
    with scored(data, path) as blocks, pytest.raises(ServiceError) as raised:
        list(blocks)
    assert sentence[1:] in raised.value.message


@pytest.mark.parametrize("block_rows", [10, 11, 16_384])
def test_a_cell_that_looks_like_rows_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    """Rows that two stray quotes make into one cell are named by the line of the first, also where a block ends there."""
    monkeypatch.setattr(lines, "BLOCK_ROWS", block_rows)
    rows = text_table(["a"]).splitlines()
    rows[10] = '"' + rows[10]
    rows[20] = rows[20].split(",", 1)[0] + '",' + rows[20].split(",", 1)[1]
    path = write(tmp_path / "t.csv", "\n".join(rows) + "\n")
    data = prepare(path, Settings(target="y", rare_rows=1))

    assert data.warnings[0] == "line 11: a cell in quotes holds 9 lines that look like rows; is a quote missing?"


def test_cp1252_is_named_where_the_bytes_say_so(tmp_path: Path) -> None:
    """Curly quotes and the like are bytes that latin1 has no letters for: the advice names the encoding that has."""
    for name, letter in (("cp1252", "\u201c"), ("latin1", "\u00fc")):
        path = write(tmp_path / f"{name}.csv", text_table([letter]).encode("cp1252"))
        with pytest.raises(TableError, match=f"iconv -f {name} -t utf-8"):
            prepare(path, Settings(target="y"))


def packed(text: str, ending: str) -> bytes:
    raw = text.encode()
    half = len(raw) // 2
    if ending == ".gz":
        return gzip.compress(raw[:half]) + gzip.compress(raw[half:])
    codec = pa.Codec("zstd")
    return b"".join(codec.compress(part, asbytes=True) for part in (raw[:half], raw[half:]))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("kind", [".csv", ".tsv", ".txt", ".jsonl", ".ndjson"])
def test_packed_files(tmp_path: Path, kind: str, ending: str) -> None:
    """A packed text table is one table, whatever number of members it was packed in."""
    table = pd.read_csv(io.StringIO(text_table(["a", "b"])))
    text = table.to_csv(index=False, sep="\t" if kind == ".tsv" else ";")
    if kind in (".jsonl", ".ndjson"):
        text = table.to_json(orient="records", lines=True)
    data = check_alike(write(tmp_path / f"t{kind}{ending}", packed(text, ending)))

    assert len(data.target.y) == ROWS


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_packed_file_that_is_cut_off(tmp_path: Path, ending: str) -> None:
    """A packed file that is cut off, or another thing, is refused in one sentence."""
    good = packed(text_table([str(row * 7919 % 1000) for row in range(60)]), ending)
    for name, content in (("cut", good[: len(good) - 20]), ("other", b"not packed at all, whatever its name says")):
        with pytest.raises(TableError, match=r"t\.csv|is not|cut off|cannot be read"):
            prepare(write(tmp_path / f"{name}.csv{ending}", content), Settings(target="y"))


TYPED = {
    "numbers": pa.array([None if row % 9 == 0 else row * 0.1 for row in range(ROWS)]),
    "infinities": pa.array(
        [float("inf") if row % 9 == 0 else -float("inf") if row % 7 == 0 else row for row in range(ROWS)]
    ),
    "float32": pa.array(np.arange(ROWS, dtype=np.float32) / 3),
    "float16": pa.array(np.arange(ROWS, dtype=np.float16) / 3),
    "wide": pa.array([(1 << 53) + row for row in range(ROWS)]),
    "unsigned": pa.array([(1 << 63) + row * 5000 for row in range(ROWS)], pa.uint64()),
    "decimals": pa.array([Decimal(row * 7919) / 10000 for row in range(ROWS)], pa.decimal128(38, 10)),
    "wide decimals": pa.array([Decimal(row * 7919) / 10000 for row in range(ROWS)], pa.decimal256(50, 10)),
    "booleans": pa.array([None if row % 9 == 0 else row % 2 == 0 for row in range(ROWS)]),
    "texts": pa.array([None if row % 9 == 0 else "abc"[row % 3] for row in range(ROWS)]),
    "large texts": pa.array(["abc"[row % 3] for row in range(ROWS)], pa.large_string()),
    "text views": pa.array(["abc"[row % 3] for row in range(ROWS)], pa.string_view()),
    "dictionary": pa.array(["a", "b", None, "d"] * 15).dictionary_encode(),
    "dictionary of numbers": pa.array([1.5, 2.5, None, 4.5] * 15).dictionary_encode(),
    "dictionary of dates": pa.array(
        [date(2020, 1, 1), date(2020, 1, 2), None, date(2021, 1, 1)] * 15
    ).dictionary_encode(),
    "seconds": pa.array([NOON + timedelta(days=row % 28) for row in range(ROWS)], pa.timestamp("s", "UTC")).cast(
        pa.timestamp("s")
    ),
    "nanoseconds": pa.array([1_577_836_800_123_456_789 + row for row in range(ROWS)], pa.timestamp("ns")),
    "zone": pa.array([NOON + timedelta(days=row % 28) for row in range(ROWS)], pa.timestamp("us", "Europe/Berlin")),
    "old and far": pa.array([date(1 + row * 160, 1, 1) for row in range(ROWS)]).cast(pa.timestamp("us")),
    "days": pa.array([date(1 + row * 160, 1, 1) for row in range(ROWS)], pa.date32()),
    "times": pa.array([row * 60_000 for row in range(ROWS)], pa.time32("ms")),
    "dates as texts": pa.array([f"{row % 28 + 1}.12.2020" for row in range(ROWS)]),
}


IN_ARROW = {  # which Parquet does not hold
    "runs": pa.RunEndEncodedArray.from_arrays([20, 40, ROWS], [1.5, None, 3.5]),
    "runs of texts": pa.RunEndEncodedArray.from_arrays([20, 40, ROWS], ["a", None, "b"]),
    "dictionary of text views": pa.DictionaryArray.from_arrays(
        pa.array([0, 1, None, 3] * 15), pa.array(["a", "b", "c", "d"], pa.string_view())
    ),
    "runs of text views": pa.RunEndEncodedArray.from_arrays(
        [20, 40, ROWS], pa.array(["a", None, "b"], pa.string_view())
    ),
    "bits": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([row % 2 for row in range(ROWS)], pa.int8())),
}


@pytest.mark.parametrize("column", IN_ARROW.values(), ids=IN_ARROW)
def test_columns_that_stand_for_others(tmp_path: Path, column: pa.Array) -> None:
    """Runs and extension types are the values that they stand for, in training and in scoring."""
    path = tmp_path / "t.arrow"
    table = pa.table({"a": column, "x": [row % 5 for row in range(ROWS)], "y": np.arange(ROWS) / 7})
    with pa.OSFile(str(path), "wb") as sink, ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)

    assert feature_of(check_alike(path, keep=("a",))).name == "a"


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".arrow", ".arrows", ".ipc"])
@pytest.mark.parametrize("column", TYPED.values(), ids=TYPED)
def test_typed_columns(tmp_path: Path, column: pa.Array, ending: str) -> None:
    """Every type of column is the same value in training and in scoring, from every kind of file."""
    table, path = (
        pa.table({"a": column, "x": [row % 5 for row in range(ROWS)], "y": np.arange(ROWS) / 7}),
        tmp_path / f"t{ending}",
    )
    if ending == ".parquet":
        parquet.write_table(table, path)
    elif ending == ".feather":
        feather.write_feather(table, path)
    else:
        opened = ipc.new_file if ending == ".arrow" else ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, opened(sink, table.schema) as writer:
            writer.write_table(table)
    data = check_alike(path, keep=("a",))

    assert feature_of(data).name == "a"


def test_int96(tmp_path: Path) -> None:
    """An INT96 timestamp outside of the years that nanoseconds reach is the date that it says, and not another one."""
    days = [date(1000 + row * 100, 5, 17) for row in range(ROWS)]
    path = tmp_path / "t.parquet"
    table = pa.table({"a": pa.array(days).cast(pa.timestamp("us")), "y": np.arange(ROWS) / 7})
    parquet.write_table(table, path, use_deprecated_int96_timestamps=True)
    data = check_alike(path)

    numeric = np.concatenate([part.numeric for part in data.arrays.values() if part.numeric is not None])
    wanted = [(day - date(1970, 1, 1)).total_seconds() for day in days]
    assert sorted(numeric[:, 0].tolist()) == wanted


@pytest.mark.parametrize("index", [None, "customer"])
def test_the_index_of_a_frame(tmp_path: Path, index: str | None) -> None:
    """A shuffled frame's index is not a feature, is named, is not required in scoring, and is read where a flag asks."""
    frame = pd.DataFrame({"a": np.arange(ROWS) % 7, "y": np.arange(ROWS) * 0.5}).sample(frac=1, random_state=1)
    frame.index.name = index
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    data = check_alike(path)
    name = index or "__index_level_0__"

    assert [feature.name for feature in data.signature.inputs] == ["a"]
    assert any(name in line and f"--keep {name}" in line for line in data.warnings)
    assert [feature.name for feature in check_alike(path, keep=(name,)).signature.inputs] == ["a", name]
    frame.reset_index(drop=True).to_parquet(tmp_path / "plain.parquet")
    with scored(data, tmp_path / "plain.parquet") as blocks:
        assert sum(block.rows for block in blocks) == ROWS


def test_an_index_that_training_did_not_have(tmp_path: Path) -> None:
    """A model of a plain table scores a shuffled frame: the index passes by."""
    frame = pd.DataFrame({"a": np.arange(ROWS) % 7, "y": np.arange(ROWS) * 0.5})
    frame.to_parquet(tmp_path / "t.parquet")
    data = check_alike(tmp_path / "t.parquet")
    frame.sample(frac=1, random_state=1).to_parquet(tmp_path / "shuffled.parquet")

    with scored(data, tmp_path / "shuffled.parquet") as blocks:
        assert sum(len(block.read().kept) for block in blocks) == ROWS


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    """The files of a folder are one table in the order of their names; folders named column=value are a column."""
    for place, year in enumerate((2019, 2020, 2021)):
        folder = tmp_path / "t" / f"year={year}"
        folder.mkdir(parents=True)
        (tmp_path / "t" / "_SUCCESS").touch()
        rows = range(place * ROWS, (place + 1) * ROWS)
        parquet.write_table(
            pa.table({"a": [row % 7 for row in rows], "y": [row / 3 for row in rows]}), folder / "0.parquet"
        )
    data = check_alike(tmp_path / "t")

    assert [feature.name for feature in data.signature.inputs] == ["a", "year"]
    assert len(data.target.y) == 3 * ROWS


def test_a_folder_whose_files_differ(tmp_path: Path) -> None:
    """A file of other columns would lose its values: the folder is refused with the names."""
    parquet.write_table(pa.table({"a": [1], "y": [1]}), tmp_path / "0.parquet")
    parquet.write_table(pa.table({"b": [1], "y": [1]}), tmp_path / "1.parquet")

    with pytest.raises(
        TableError, match=r"1\.parquet and 0\.parquet have different columns: it lacks 'a' and it also has 'b'"
    ):
        prepare(tmp_path, Settings(target="y"))


def test_json_lines(tmp_path: Path) -> None:
    """JSON Lines train as they score: typed values, texts that are texts, and null."""
    rows = [
        {
            "n": None if row % 9 == 0 else row * 0.5,
            "t": ["NA", "b", None][row % 3],
            "b": row % 2 == 0,
            "d": f"2020-01-{row % 28 + 1:02}",
            "y": row,
        }
        for row in range(ROWS)
    ]
    data = check_alike(write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)) + "\n"), task="regression")

    assert [feature.kind for feature in data.signature.inputs] == ["numeric", "categorical", "numeric", "date"]
    assert feature_of(data, "t").categories == ("NA", "b")


@pytest.mark.parametrize(
    "line, sentence",
    [
        ('{"a": 1}', "line 2 of .* has no key 'y': write null where a value is missing"),
        ('{"a": 1, "y": 2, "z": 3}', "line 2 of .* has the key 'z', which the first line lacks: write null there"),
        ("[1, 2]", "line 2 of .*: a line is an object"),
        ('{"a": 1, "a": 2, "y": 1}', "line 2 of .*: the key 'a' is given twice in one object"),
        ("{", "line 2 of .*: the line is not JSON"),
    ],
)
def test_json_lines_that_are_refused(tmp_path: Path, line: str, sentence: str) -> None:
    """A line that scoring would refuse is refused in training, by its number."""
    path = write(tmp_path / "t.jsonl", '{"a": 1, "y": 2}\n' + line + "\n")
    with pytest.raises(TableError, match=sentence):
        prepare(path, Settings(target="y"))


def test_json_values_of_two_types(tmp_path: Path) -> None:
    """A key with numbers and texts has no type: its column is left out, and its owner is warned."""
    rows = [{"a": row % 3, "m": row if row % 2 else "x", "y": row * 0.5} for row in range(ROWS)]
    data = check_alike(write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows))))

    assert data.warnings == ("column 'm' is left out: it holds numbers and texts.",)


def every_kind(row: int) -> dict[str, Any]:
    """Return a row that has every kind of column, as JSON values; texts that a rule reads are texts in every format."""
    return {
        "float": None if row % 9 == 0 else row * 0.1,
        "whole": row % 11,
        "flag": row % 2 == 0,
        "text": None if row % 8 == 0 else ["red", "green", "Ærø"][row % 3],
        "day": None if row % 7 == 0 else f"2020-{row % 12 + 1:02}-{row % 28 + 1:02}",
        "moment": f"2024-02-29T{row % 24:02}:30:00.25Z",
        "price": f"${row * 7},{row % 10}00.50" if row % 5 else "unknown",
        "share": f"{row / 7:.1f}%",
        "when": f"{row % 12 + 1}/{row % 28 + 1}/20",
        "y": row % 7 + row / 100,
    }


def write_as(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format and packing that the name says."""
    table = pa.Table.from_pylist(rows)
    kind = path.suffixes[0]
    if kind in (".csv", ".tsv", ".txt"):
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if kind == ".tsv" else ";", lineterminator="\r\n")
        writer.writerow(rows[0])
        writer.writerows(["" if value is None else value for value in row.values()] for row in rows)
        content = text.getvalue()
    elif kind == ".jsonl":
        content = "\n".join(map(json.dumps, rows))
    elif kind == ".parquet":
        parquet.write_table(table, path, row_group_size=13)
        return path
    elif kind == ".feather":
        feather.write_feather(table, path)
        return path
    else:
        opened = ipc.new_file if kind == ".arrow" else ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, opened(sink, table.schema) as writer_of_batches:
            writer_of_batches.write_table(table, max_chunksize=17)
        return path
    return write(path, content if len(path.suffixes) == 1 else packed(content, path.suffixes[-1]))


def test_one_table_in_every_format(tmp_path: Path) -> None:
    """A model of a CSV table reads the same rows from every format, and one by one as JSON, to the arrays that it trained on."""
    rows = [every_kind(row) for row in range(1, ROWS + 1)]
    names = ["t.csv", "t.tsv", "t.txt", "t.csv.gz", "t.txt.zst", "t.jsonl", "t.jsonl.gz"]
    names += ["t.parquet", "t.feather", "t.arrow", "t.arrows"]
    data = check_alike(write_as(tmp_path / "train.csv", rows))
    kinds = {feature.name: feature.kind for feature in data.signature.inputs}
    assert kinds == {
        **dict.fromkeys(("float", "whole", "flag", "price", "share"), "numeric"),
        **dict.fromkeys(("day", "moment", "when"), "date"),
        "text": "categorical",
    }
    bare = [{name: value for name, value in row.items() if name != "y"} for row in rows]
    wanted = Encoder(data.signature).encode_rows(bare)
    assert wanted.errors == []
    for part in ("train", "validation", "test"):
        for trained, served in zip(data.arrays[part], wanted.arrays, strict=True):
            assert served is not None
            np.testing.assert_array_equal(served[getattr(data.split, part)], trained)
    for name in names:
        with scored(data, write_as(tmp_path / name, rows)) as blocks:
            read = [block.read() for block in blocks]
        assert [problem for result in read for problem in result.problems] == [], name
        for kind, served in zip(("numeric", "categorical"), wanted.arrays, strict=True):
            np.testing.assert_array_equal(
                np.concatenate([getattr(result.arrays, kind) for result in read]), served, name
            )


RULES: list[tuple[list[str], dict[str, Any]]] = [
    (["1", "2", "-999"], {"missing": ("-999",)}),
    (["1", "2", "-999.0"], {"missing": ("a=-999",)}),
    (["red", "green", "unknown"], {"missing": ("unknown",)}),
    (["1", "2", "abc"], {"missing": ("abc",)}),
    (['"1,234"', '"5,678"'], {"thousands": ","}),
    (['"1,234"', '"5,678"'], {"decimal": ","}),
    (["1.234", "5.678"], {"decimal": ",", "thousands": "."}),
    (["01/02/2020", "03/04/2020"], {"date_format": ("%d/%m/%Y",)}),
    (["01/02/2020", "03/04/2020"], {"date_format": ("a=%m/%d/%Y",)}),
    (["1900-01-01", "2020-02-03"], {"missing": ("1900-01-01",)}),
    ([" a", "a", "b "], {"strip": True}),
    (["NA", "None", "null", ""], {"text": ("a",)}),
    (["007", "011"], {"categorical": ("a",)}),
    (["1", "7"], {"categorical": ("a",)}),
    (["1", "7", "99999999999999999999"], {"categorical": ("a",)}),
    (["007", "1.50"], {"text": ("a",)}),
    (["true", "false"], {"categorical": ("a",)}),
    (["$1", "$2"], {"text": ("a",)}),
]


@pytest.mark.parametrize("cells, settings", RULES, ids=str)
def test_rules_of_flags(tmp_path: Path, cells: list[str], settings: dict[str, Any]) -> None:
    """What a flag says of a column is stored in the bundle, and scoring reads by it."""
    data = check_alike(write(tmp_path / "t.csv", text_table(cells)), **settings)

    assert Signature.model_validate(json.loads(json.dumps(data.signature.model_dump()))) == data.signature


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["", "NA", " 1 ", "+2", "0x1f", "nan(1)", "-inf", "1_0", "007", ".", "?", "unknown", "-", "1e400"]),
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)
MORE = st.sampled_from(["$1", "1,5", "1.5%", "12 kg", "2020-01-01", "31/12/2020", "Jan 1 2000", "true", "0", " a", "a"])


@hypotheses(max_examples=150, deadline=None)
@given(st.lists(st.one_of(NUMBERS, TEXTS, MORE), min_size=1, max_size=6), st.sampled_from(["csv", "jsonl", "parquet"]))
def test_any_cells(tmp_path_factory: pytest.TempPathFactory, cells: list[str], kind: str) -> None:
    """Whatever texts a column holds, as cells or as typed texts, what trains is scored to the same arrays."""
    path = tmp_path_factory.mktemp("t") / f"t.{kind}"
    columns = {"a": [cells[row % len(cells)] for row in range(ROWS)], "x": [row * 0.5 for row in range(ROWS)]}
    table = pd.DataFrame({**columns, "y": [row % 7 + row / 100 for row in range(ROWS)]})
    if kind == "csv":
        table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)  # pandas quotes no lone CR by itself
    elif kind == "jsonl":
        rows = table.to_dict(orient="records")
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        parquet.write_table(pa.Table.from_pandas(table, preserve_index=False), path)
    try:
        check_alike(path)
    except TableError as refused:
        assert "column 'a'" in str(refused)  # noqa: PT017 - a table may be refused, by its column
