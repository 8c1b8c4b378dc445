"""Files to Arrow tables, and one sentence for each way in which a file cannot be used."""

import gzip
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from batchproof.service.features.texts.csv_records import SIGNS, Records
from batchproof.service.features.texts.text_cells import MISSING
from batchproof.training.data.columns import typed
from batchproof.training.data.tables.table import read
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.text.text_options import TextOptions

TEXT = "a,b\n1,x\n2,NA\n"


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".feather", ".arrow"])
def test_formats(tmp_path: Path, ending: str) -> None:
    """Every format gives the same values: cells of a text table as they are written, those of others with their type."""
    table, path = pa.table({"a": [1, 2], "b": ["x", None]}), tmp_path / f"t{ending}"
    if ending == ".parquet":
        parquet.write_table(table, path)
    elif ending == ".feather":
        feather.write_feather(table, path)
    elif ending == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_text(TEXT if ending == ".csv" else TEXT.replace(",", "\t"))
    found = read(path)
    is_text = ending in (".csv", ".tsv")
    assert found.is_text is is_text
    assert found.arrow.to_pydict() == (
        {"a": ["1", "2"], "b": ["x", "NA"]} if is_text else {"a": [1, 2], "b": ["x", None]}
    )


def test_delimiters_and_compression(tmp_path: Path) -> None:
    """A CSV file may use semicolons, be compressed, start with a byte order mark and quote line ends."""
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress('\ufeffa;b\n1;"x\ny"\n'.encode()))
    assert read(path).arrow.to_pydict() == {"a": ["1"], "b": ["x\ny"]}


@pytest.mark.parametrize("token", sorted(MISSING))
def test_null_tokens(tmp_path: Path, token: str) -> None:
    """The usual ways to write nothing are missing values, in numbers and in text."""
    path = tmp_path / "t.csv"
    path.write_text(f"a,b\n1.5,x\n{token},{token}\n")
    arrow = read(path).arrow
    columns = [typed(name, arrow.column(name), options=TextOptions(is_cells=True)) for name in ("a", "b")]
    assert [column and column.is_missing.tolist() for column in columns] == [[False, True], [False, True]]


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("t.csv", b"", r"t.csv is empty\."),
        ("t.csv", b"a,b\n", r"has a header but no rows\."),
        ("t.csv", b"a,a\n1,2\n", r"has 2 columns named 'a': give each its own name\."),
        ("t.csv", b"a,b\n1,\xff\xfe\n", r"t.csv: line 2, column 'b', is not UTF-8 \(byte 0xff\)"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), r"t.csv: the table is UTF-16: convert it with iconv "),
        ("t.csv", b"a,b\n1,2\n3\n", r"line 3 of .*t.csv has 1 cells, but there are 2 columns\.$"),
        ("t.csv", b'a;b\n\n1;"x\ny"\n1;2;3\n', r"line 5 of .*t.csv has 3 cells, but there are 2 columns\.$"),
        ("t.parquet", b"PAR1 not so", r"t.parquet cannot be read: "),
        ("t.arrow", b"ARROW1 not so", r"t.arrow cannot be read: "),
        ("t.xlsx", b"PK", r"has the ending '.xlsx'; tables end in one of \.csv, "),
    ],
)
def test_refusals(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    """A file that cannot be used is refused in one sentence that names it."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TableError, match=sentence):
        read(path)


def test_a_ragged_row_is_not_shown(tmp_path: Path) -> None:
    """The values of a row that does not fit may be anybody's: they are in no message."""
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n3,secret,4\n"))
    with pytest.raises(TableError, match="line 3 ") as refused:
        read(path)
    assert "secret" not in str(refused.value)


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is refused by its name."""
    with pytest.raises(TableError, match=r"there is no file .*absent.csv\."):
        read(tmp_path / "absent.csv")


LATIN = "Zürich,2\n".encode("latin-1")


@pytest.mark.parametrize(
    "content, where",
    [
        (b"a,b\n" + LATIN, "line 2, column 'a'"),
        ("Größe,b\n1,2\n".encode("latin-1"), "line 1, name 1 of the columns"),
        (b"a,b\n" + b"Bern,1\n" * 400_000 + LATIN, "line 400002, column 'a'"),
        (b"a,b\n" + LATIN.replace(b",2", b",2,3"), "line 2, column 'a'"),
        (b"a;b\n1;" + LATIN.replace(b",", b";"), "line 2, column 'b'"),
        (b'a,b\n1,"two\nlines, ' + LATIN.rstrip() + b'"\n', "line 3, column 'b'"),
    ],
    ids=["cell", "name", "late", "ragged", "semicolons", "quoted"],
)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_another_encoding_is_told_by_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, where: str, ending: str
) -> None:
    """Bytes that are not UTF-8 are refused by file, line and column, wherever they are, with what to do."""
    path = tmp_path / f"latin{ending}"
    path.write_bytes(gzip.compress(content, 1) if ending.endswith("gz") else content)
    with pytest.raises(TableError) as refused:
        read(path)

    sentence = str(refused.value)
    assert sentence.startswith(f"{path}: {where}, is not UTF-8 (byte 0xf")
    assert "iconv -f latin1 -t utf-8" in sentence
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "head",
    [
        "a;b;c",
        "a\tb\tc",
        "a|b|c",
        "a,b,c",
        '"x;y;z",b,c',
        '"x,y\nz,w";b;c',
        "\n\na;b",
        "a",
        "a;b,c",
        "a,b;c;d",
        'a 5";b;c',
    ],
)
def test_delimiters_are_those_of_serving(tmp_path: Path, head: str) -> None:
    """Training and serving part the names of a header at the same places."""
    body = f"{head}\n".encode()
    _, names = next(iter(Records(BytesIO(body), SIGNS)))
    delimiter = Records(BytesIO(body), SIGNS).delimiter
    path = tmp_path / "t.csv"
    path.write_bytes(body + delimiter.join("1" * len(names)).encode() + b"\n")

    assert read(path).names == names
