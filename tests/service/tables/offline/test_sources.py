"""Tables that are not one plain file: packed, a folder, standard input, or the training table itself."""

import gzip
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from batchproof.service.__main__ import main
from batchproof.service.errors import ServiceError
from batchproof.service.tables.formats import CSV
from batchproof.service.tables.offline.parts import Parts
from batchproof.service.tables.offline.sources import SourceError, format_of, open_source, standard_input
from tests.bundles import INPUTS, make_bundle, random_rows, signature_of

ROWS = random_rows(signature_of("multiclass", INPUTS), 120, seed=3)
NAMES = [feature["name"] for feature in INPUTS]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model's folder."""
    return make_bundle(tmp_path / "models", "flowers").parent


def lines() -> bytes:
    return b"\n".join(json.dumps(dict(zip(NAMES, row, strict=True))).encode() for row in ROWS)


def typed() -> pa.Table:
    return pa.table({name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)})


def predicted(model: Path, source: object, target: Path) -> list[list[float]]:
    """Score a table and return its probabilities, row by row."""
    assert main(["predict", str(model), str(source), str(target), "--answer", "alone"]) == 0
    answer = parquet.read_table(target).select(["probability_red", "probability_green", "probability_blue"])
    return np.stack([column.to_numpy() for column in answer.columns], axis=1).tolist()


def test_every_source_has_the_same_answer(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A packed table, a folder of Parquet files and standard input are answered as the plain table is."""
    plain = tmp_path / "t.jsonl"
    plain.write_bytes(lines())
    wanted = predicted(model, plain, tmp_path / "plain.parquet")
    half = len(lines()) // 2
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines()[:half]) + gzip.compress(lines()[half:]))
    (tmp_path / "t.ndjson.zst").write_bytes(pa.compress(lines(), "zstd", asbytes=True))
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        parquet.write_table(typed().slice(number * 40, 40), folder / f"part-{number}.parquet")
    (folder / "_SUCCESS").touch()
    parquet.write_table(typed(), folder / ".part-9.parquet")

    for name in ("t.jsonl.gz", "t.ndjson.zst", "folder"):
        assert predicted(model, tmp_path / name, tmp_path / f"{name}.answer.parquet") == wanted, name
    for name in ("t.jsonl", "t.jsonl.gz", "folder/part-0.parquet"):
        content = (tmp_path / name).read_bytes()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        answer = predicted(model, "-", tmp_path / f"{Path(name).name}.stdin.parquet")
        assert answer == wanted[: len(answer)]
    assert "stdin.jsonl.gz" in capsys.readouterr().err


def test_answers_in_a_folder_have_the_names_of_their_tables(model: Path, tmp_path: Path) -> None:
    """In a folder the answer of a packed table is not packed, and that of a text table is CSV."""
    text = ",".join(NAMES) + "\n" + ",".join("" if v is None else str(v) for v in ROWS[0]) + "\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "b.txt").write_text(text)
    (tmp_path / "c").mkdir()
    parquet.write_table(typed(), tmp_path / "c" / "0.parquet")
    sources = [str(tmp_path / name) for name in ("a.csv.gz", "b.txt", "c")]

    assert main(["predict", str(model), *sources, f"{tmp_path / 'answers'}/", "--on-error", "row"]) == 0
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == ["a.csv", "b.csv", "c.parquet"]


def test_a_folder_without_tables_and_packed_answers_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of other files, an answer that would be packed, and packed Parquet are refused in one sentence."""
    plain = tmp_path / "t.jsonl"
    plain.write_bytes(lines())
    for source, target, sentence in (
        (tmp_path, tmp_path / "o.csv", "is a folder; a table is a file"),
        (plain, tmp_path / "o.csv.gz", "is compressed, and answers are written uncompressed"),
        (plain, tmp_path / "o.txt", "names no separator; answers that are tables end in .csv"),
    ):
        assert main(["predict", str(model), str(source), str(target)]) == 2
        assert sentence in capsys.readouterr().err
    with pytest.raises(SourceError, match="is a packed parquet file"):
        format_of(Path("t.parquet.gz"))


def test_a_folder_whose_files_differ_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of other columns, or that are not Parquet, are refused by their names before a row is read."""
    folder = tmp_path / "t"
    folder.mkdir()
    parquet.write_table(typed(), folder / "0.parquet")
    parquet.write_table(typed().append_column("more", [[1] * len(ROWS)]), folder / "1.parquet")
    assert main(["predict", str(model), str(folder), str(tmp_path / "o.parquet")]) == 2
    assert "1.parquet and 0.parquet have different columns: it also has 'more'" in capsys.readouterr().err
    (folder / "1.parquet").write_bytes(b"PAR1 not so")
    assert main(["predict", str(model), str(folder), str(tmp_path / "o.parquet")]) == 2
    assert "1.parquet is not Parquet" in capsys.readouterr().err


def test_a_damaged_file_of_a_folder_is_named(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file whose footer is good and whose pages are not is refused by its name, and no answer is left."""
    folder = tmp_path / "t"
    folder.mkdir()
    for name in ("0", "1", "2"):
        parquet.write_table(typed(), folder / f"{name}.parquet", compression="gzip", write_page_checksum=True)
    path = folder / "1.parquet"
    good, end = path.read_bytes(), len(b"PAR1")
    for column in map(parquet.read_metadata(path).row_group(0).column, range(len(NAMES))):
        start, end = end, end + column.total_compressed_size
        for damaged in (good[: end - 1] + bytes([good[end - 1] ^ 1]), good[:start] + bytes(end - start)):
            path.write_bytes(damaged + good[end:])
            assert main(["predict", str(model), str(folder), str(tmp_path / "o.parquet")]) == 2
            assert "1.parquet cannot be read: " in capsys.readouterr().err
            assert not (tmp_path / "o.parquet").exists()


def in_parts(folder: Path, *tables: pa.Table) -> Path:
    """Write the parts of a table."""
    folder.mkdir()
    for number, table in enumerate(tables):
        parquet.write_table(table, folder / f"{number}.parquet")
    return folder


def changed(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Return the table with other values in a column."""
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize("wrong", [pa.bool_(), pa.timestamp("us"), pa.string()])
def test_a_column_has_one_type_in_all_files(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: pa.DataType
) -> None:
    """Truth values are no numbers, and numbers no texts, also in the second file: file and column are named."""
    number = next(
        name for name, column in zip(NAMES, typed().columns, strict=True) if pa.types.is_floating(column.type)
    )
    other = changed(typed(), number, pa.nulls(len(ROWS), wrong).fill_null(pa.scalar(1, pa.int64()).cast(wrong)))
    folder = in_parts(tmp_path / "t", typed(), other)
    assert main(["predict", str(model), str(folder), str(tmp_path / "o.parquet")]) == 2
    error = capsys.readouterr().err
    assert f"The column {number!r} is {wrong} in 1.parquet and double in 0.parquet".casefold() in error.casefold()


def test_forms_of_one_type_are_read_as_alone(model: Path, tmp_path: Path) -> None:
    """Whole numbers beside fractions, texts beside dictionaries of texts and columns of nothing keep their values."""
    table = typed()
    one, two = table.slice(0, 60), table.slice(60)
    other = two
    for name, column in zip(NAMES, two.columns, strict=True):
        if pa.types.is_string(column.type):
            other = changed(other, name, column.combine_chunks().dictionary_encode())
    whole = next(name for name, column in zip(NAMES, table.columns, strict=True) if pa.types.is_floating(column.type))
    one = changed(one, whole, pa.array([3] * len(one), pa.int64()))
    wanted = pa.concat_tables([changed(table.slice(0, 60), whole, pa.array([3.0] * 60)), two])
    parquet.write_table(wanted, tmp_path / "one.parquet")
    folder = in_parts(tmp_path / "t", one, other)
    assert predicted(model, folder, tmp_path / "a.parquet") == predicted(
        model, tmp_path / "one.parquet", tmp_path / "b.parquet"
    )


def test_a_bad_row_of_a_folder_is_named_by_its_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows are numbered within the file that they are in."""
    number = next(
        name for name, column in zip(NAMES, typed().columns, strict=True) if pa.types.is_floating(column.type)
    )
    values = typed()[number].to_pylist()
    values[7] = float("inf")
    folder = in_parts(tmp_path / "t", typed(), changed(typed(), number, pa.array(values)))
    assert main(["predict", str(model), str(folder), str(tmp_path / "o.parquet")]) == 2
    assert f"1.parquet, row 7, feature {number!r}" in capsys.readouterr().err


def test_a_folder_and_its_files_do_not_contradict(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file may hold the column that its folder's name gives; other values in it are refused, with both names."""
    text = next(name for name, column in zip(NAMES, typed().columns, strict=True) if pa.types.is_string(column.type))
    value = next(value for value in typed()[text].to_pylist() if value)
    same = changed(typed(), text, pa.array([value] * len(ROWS)))
    (tmp_path / "t").mkdir()
    folder = in_parts(tmp_path / "t" / f"{text}={value}", same)
    plain = predicted(model, folder / "0.parquet", tmp_path / "a.parquet")
    assert predicted(model, folder.parent, tmp_path / "b.parquet") == plain
    parquet.write_table(typed(), folder / "0.parquet")
    assert main(["predict", str(model), str(folder.parent), str(tmp_path / "c.parquet")]) == 2
    assert f"has a column {text!r} with other values than the folder {text}={value}" in capsys.readouterr().err


def test_an_answer_is_no_part_of_its_table(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An answer in the folder that it is made of would be read by the next run."""
    folder = in_parts(tmp_path / "t", typed())
    assert main(["predict", str(model), str(folder), str(folder / "deeper" / "o.parquet")]) == 2
    assert "would be a part of that table: write it elsewhere" in capsys.readouterr().err


def test_a_stream_that_ends_between_two_batches_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of a stream has a marker at its end: without it, batches may be missing."""
    path = tmp_path / "t.arrows"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, typed().schema) as writer:
        writer.write_table(typed(), max_chunksize=50)
        first = file.tell()
        writer.write_table(typed())
    assert main(["predict", str(model), str(path), str(tmp_path / "a.csv")]) == 0
    path.write_bytes(path.read_bytes()[:first])
    assert main(["predict", str(model), str(path), str(tmp_path / "b.csv")]) == 2
    assert "the marker of its end is missing" in capsys.readouterr().err
    assert not (tmp_path / "b.csv").exists()


def test_two_runs_do_not_write_one_answer(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run is refused while the first one lasts, and changes nothing of what it wrote."""
    parquet.write_table(typed(), tmp_path / "t.parquet")
    target = tmp_path / "o.csv"
    arguments = ["predict", str(model), str(tmp_path / "t.parquet"), str(target), "--part-rows", "50"]
    with Parts(target, {"another": "job"}) as parts:
        with parts.next_file() as file:
            file.write(b"one part")
        parts.finish(1, 0)
        assert main(arguments) == 2
        assert f"another run is writing {target}" in capsys.readouterr().err
        assert parts.finished[0].path.read_bytes() == b"one part"
    assert main(arguments) == 0
    assert len(target.read_text().splitlines()) == len(ROWS) + 1
    assert not target.with_name("o.csv.parts").exists()


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_packed_table_that_is_cut_off_is_refused(tmp_path: Path, ending: str) -> None:
    """The end of a packed file is looked for: a part of it is not the table."""
    text = "\n".join(str(number * 7919 % 10007) for number in range(5000)).encode()
    good = gzip.compress(text) if ending == ".gz" else pa.compress(text, "zstd", asbytes=True)
    for content in (good[:-20], b"no such thing at all"):
        path = tmp_path / f"t.csv{ending}"
        path.write_bytes(content)
        file, fmt = open_source(path)
        assert fmt == CSV
        with (
            file,
            pytest.raises(
                ServiceError, match=f"The file is not {'gzip' if ending == '.gz' else 'zstd'}, or is cut off"
            ),
        ):
            file.read()


@pytest.mark.parametrize(
    "content, name",
    [
        (b"a,b\n1,2\n", "stdin.csv"),
        (b'\xef\xbb\xbf {"a": 1}\n', "stdin.jsonl"),
        (gzip.compress(b"a,b\n", mtime=0), "stdin.csv.gz"),
        (gzip.compress(b'{"a": 1}\n', mtime=0), "stdin.jsonl.gz"),
        (pa.compress(b"a,b\n", "zstd", asbytes=True), "stdin.csv.zst"),
        (b"PAR1", "stdin.parquet"),
        (b"ARROW1\0\0", "stdin.arrow"),
        (b"\xff\xff\xff\xff\x10", "stdin.arrows"),
        (b"", "stdin.csv"),
    ],
)
def test_standard_input_says_its_format(content: bytes, name: str) -> None:
    """The first bytes of standard input name its format, and nothing of it stays behind."""
    with standard_input(io.BytesIO(content)) as path:
        assert path.name == name
        assert path.read_bytes() == content
    assert not path.exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_training_table_passes(model: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The target and columns that training ignored are copied to the answer; another column is still refused."""
    path = tmp_path / f"t.{kind}"
    target = signature_of("multiclass", INPUTS).target

    def write(name: str) -> None:
        rows = [{**dict(zip(NAMES, row, strict=True)), name: "x"} for row in ROWS]
        if kind == "csv":
            path.write_text(
                "\n".join([",".join([*NAMES, name]), *(",".join(cell(v) for v in row.values()) for row in rows)])
            )
        elif kind == "jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        else:
            parquet.write_table(pa.Table.from_pylist(rows), path)

    write(target)
    answer = tmp_path / "o.parquet"
    assert main(["predict", str(model), str(path), str(answer)]) == 0
    assert parquet.read_table(answer)[target].to_pylist() == ["x"] * len(ROWS)
    write("stranger")
    assert main(["predict", str(model), str(path), str(answer), "--overwrite"]) == 2
    assert "stranger" in capsys.readouterr().err


def cell(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else f'"{value}"'


@pytest.mark.parametrize(
    "content, ending",
    [
        (b"\x1f\x8b\x08", ".csv.gz"),
        (b"\x28\xb5\x2f\xfd", ".csv.zst"),
        (b"PAR1....", ".parquet"),
        (b"ARROW1..", ".arrow"),
    ],
)
def test_another_format_under_the_name_of_a_text_is_named(tmp_path: Path, content: bytes, ending: str) -> None:
    """The first bytes say what the file is, and the refusal which ending it needs."""
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ServiceError, match=f"give it the ending {re.escape(ending)}"):
        open_source(path)
