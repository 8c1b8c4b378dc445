"""Files scored without a server: the bits of the runner, whole answers or none, and jobs that go on."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from batchproof.service.__main__ import main
from batchproof.service.bundle import reader as bundle
from batchproof.service.cli.predict import block_rows
from batchproof.service.errors import EngineError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.service.inference.runner import Runner, rows_of
from batchproof.service.tables.offline.progress import Progress
from tests.bundles import INPUTS, NUMBERS, make_bundle, random_rows, signature_of

ROWS = random_rows(signature_of("multiclass", INPUTS), 250, seed=9)
NAMES = [feature["name"] for feature in INPUTS]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model's folder."""
    return make_bundle(tmp_path / "models", "flowers").parent


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a Parquet file of the rows."""
    path = tmp_path / "rows.parquet"
    parquet.write_table(table(), path)
    return path


def table() -> pa.Table:
    return pa.table({name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)})


def expected(model: Path) -> np.ndarray:
    """Return what the engine gives for the rows alone."""
    read = bundle.read(model / "1")
    encoded = Encoder(read.manifest.signature).encode_rows(ROWS)
    (outputs,) = Runner(Engine(read.model, EngineOptions(device="cpu")), 1).run([encoded.arrays])
    return outputs["probabilities"]


def found(path: Path) -> np.ndarray:
    """Return an answer's probabilities [rows, classes] float32."""
    named: Any
    if path.suffix == ".jsonl":
        lines = [json.loads(line)["prediction"]["probabilities"] for line in path.read_text().splitlines()]
        named = {f"probability_{name}": [line[name] for line in lines] for name in lines[0]}
    elif path.suffix in (".csv", ".tsv"):
        rows = list(csv.DictReader(io.StringIO(path.read_text()), delimiter="," if path.suffix == ".csv" else "\t"))
        named = {name: [row[name] for row in rows] for name in rows[0]}
    elif path.suffix == ".arrows":
        with ipc.open_stream(path) as stream:
            named = stream.read_all()
    else:
        named = parquet.read_table(path) if path.suffix == ".parquet" else feather.read_table(path)
    columns = [np.asarray(named[f"probability_{name}"], np.float32) for name in ("red", "green", "blue")]
    return np.stack(columns, axis=1)


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl", ".arrow", ".arrows"])
@pytest.mark.parametrize("part_rows", [60, 1000])
def test_answers_have_the_bits_of_single_rows(model: Path, source: Path, suffix: str, part_rows: int) -> None:
    """From Parquet to every format and on to CSV, in one part or several, no bit is changed."""
    target, again = source.with_name(f"answers{suffix}"), source.with_name("again.csv")
    assert predict(model, source, target, "--part-rows", part_rows) == 0
    assert predict(model, target, again, "--extra", "ignore", "--answer", "alone") == 0

    wanted = expected(model).tobytes()
    assert found(target).tobytes() == wanted
    assert found(again).tobytes() == wanted
    assert sorted(path.name for path in source.parent.iterdir()) == ["again.csv", target.name, "models", "rows.parquet"]


@pytest.mark.parametrize("workers", [0, 2, 5])
def test_workers_change_no_byte(model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """However many blocks the engine runs at a time, the file is the same, byte for byte."""
    monkeypatch.setattr("batchproof.service.cli.predict.BLOCK_ROWS", 20)
    for suffix in (".csv", ".parquet"):
        alone, together = source.with_name(f"alone{suffix}"), source.with_name(f"together{suffix}")
        assert predict(model, source, alone) == 0
        assert predict(model, source, together, "--workers", workers) == 0
        assert together.read_bytes() == alone.read_bytes()


def interrupted(model: Path, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin to answer in blocks of 50 rows and parts of 100, and stop after 200 rows."""
    monkeypatch.setattr("batchproof.service.cli.predict.BLOCK_ROWS", 50)

    def interrupt(_: Progress, rows: int) -> None:
        if rows > 150:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "show", interrupt)
        assert predict(model, source, target, "--part-rows", "100") == 130


def test_an_interrupted_job_goes_on(
    model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ran before an interrupt is kept, but is no answer; the same command answers the rest, to the same bits."""
    target = source.with_name("answers.parquet")
    interrupted(model, source, target, monkeypatch)
    assert not target.exists()
    assert predict(model, source, target, "--part-rows", "100") == 0

    assert "250 rows (200 were there from before)" in capsys.readouterr().err
    assert found(target).tobytes() == expected(model).tobytes()


def test_a_job_on_another_table_begins_anew(
    model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts of a table that has changed since are not used."""
    target = source.with_name("answers.parquet")
    parquet.write_table(table().slice(0, 249), source)
    interrupted(model, source, target, monkeypatch)
    assert target.with_name("answers.parquet.parts").exists()  # 200 rows are answered
    parquet.write_table(table(), source)
    assert predict(model, source, target, "--part-rows", "100") == 0

    assert "from before" not in capsys.readouterr().err
    assert found(target).tobytes() == expected(model).tobytes()


@pytest.mark.parametrize("row", [3, 249])
def test_a_refused_table_leaves_nothing_behind(
    model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], row: int
) -> None:
    """A bad row, in the first block or behind finished parts, is refused each time: no part is kept for another try."""
    monkeypatch.setattr("batchproof.service.cli.predict.BLOCK_ROWS", 50)
    bad = table().to_pylist()
    bad[row]["count"] = None
    parquet.write_table(pa.Table.from_pylist(bad, table().schema), source)

    assert predict(model, source, source.with_name("answers.parquet"), "--part-rows", "100") == 2
    assert f"row {row}, feature 'count'" in capsys.readouterr().err
    assert sorted(path.name for path in source.parent.iterdir()) == ["models", "rows.parquet"]


def test_an_engine_that_fails_leaves_the_finished_parts(
    model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was answered before the engine failed is kept for the next try, since the table is not to blame."""
    monkeypatch.setattr("batchproof.service.cli.predict.BLOCK_ROWS", 50)
    run, blocks = Runner.run, iter(range(6))

    def fail(runner: Runner, requests: Any) -> Any:
        if rows_of(requests[0]) == 50 and next(blocks) == 3:
            raise EngineError("no more")
        return run(runner, requests)

    with monkeypatch.context() as patched:
        patched.setattr(Runner, "run", fail)
        assert predict(model, source, source.with_name("answers.parquet"), "--part-rows", "100") == 2
    assert "no more" in capsys.readouterr().err
    assert [path.name for path in source.parent.glob("*.parts/0*.parquet")] == ["000000.parquet"]


@pytest.mark.parametrize("limit,groups", [("ROW_GROUP_ROWS", 3), ("ROW_GROUP_BYTES", 5)])
def test_row_groups_are_bounded(
    model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, limit: str, groups: int
) -> None:
    """A row group is written once it has its rows, or its bytes: an answer is not held until its end."""
    monkeypatch.setattr("batchproof.service.cli.predict.BLOCK_ROWS", 50)
    monkeypatch.setattr(f"batchproof.service.tables.writers.arrow.{limit}", 100)
    target = source.with_name("answers.parquet")

    assert predict(model, source, target) == 0
    assert parquet.read_metadata(target).num_row_groups == groups
    assert found(target).tobytes() == expected(model).tobytes()


def test_a_wide_block_has_fewer_rows() -> None:
    """A block holds a bounded number of values: memory does not grow with the number of features."""
    assert block_rows(1) == block_rows(32) == 16_384
    assert 512 <= block_rows(1000) <= 524
    assert block_rows(100_000) == 512


def test_refusals_name_the_flags(model: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a refusal tells to do is spelled as the command line takes it."""
    parquet.write_table(table().append_column("prediction", pa.array(["mine"] * len(ROWS))), source)

    assert predict(model, source, source.with_name("out.csv")) == 2
    assert "; --extra ignore copies such columns to the answer" in capsys.readouterr().err
    assert predict(model, source, source.with_name("out.csv"), "--extra", "ignore") == 2
    assert "Use --prefix … to rename the result columns, or --answer alone to omit" in capsys.readouterr().err


def test_bad_rows_may_be_told_in_their_place(model: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --on-error row the bad rows are counted, and their errors stand in a column."""
    rows = table().to_pylist()
    rows[3]["count"] = None
    parquet.write_table(pa.Table.from_pylist(rows, table().schema), source)
    target = source.with_name("answers.parquet")

    assert predict(model, source, target, "--on-error", "row") == 0
    answers = parquet.read_table(target).to_pylist()
    assert "250 rows, 1 of them bad" in capsys.readouterr().err
    assert [place for place, row in enumerate(answers) if row["error"]] == [3]
    assert answers[3]["prediction"] is None
    assert "feature 'count': expected a number" in answers[3]["error"]


def test_globs_fill_a_folder_and_pass_over_what_is_there(
    model: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file of a glob has its answer in the folder; given again the command does nothing twice."""
    parquet.write_table(table(), source.with_name("more.parquet"))
    pattern, folder, file = (source.with_name(name) for name in ("*.parquet", "out", "out.csv"))
    file.touch()

    assert predict(model, pattern, file) == 2  # two answers cannot be one file
    assert predict(model, pattern, f"{folder}/") == 0
    assert predict(model, pattern, f"{folder}/") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["more.parquet", "rows.parquet"]
    assert capsys.readouterr().err.count("already exists") == 2


def test_a_table_without_rows_has_an_answer(model: Path, source: Path) -> None:
    """No row is no fault: the answer has all its columns."""
    parquet.write_table(table().slice(0, 0), source)
    target = source.with_name("answers.csv")

    assert predict(model, source, target) == 0
    assert (
        target.read_text()
        == ",".join([*NAMES, "prediction", *(f"probability_{c}" for c in ("red", "green", "blue"))]) + "\n"
    )


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["MODEL", "nothing.csv", "out.csv"], "there is no file nothing.csv"),
        (["MODEL", "MODEL", "out.csv"], "is a folder; a table is a file, or several are a glob in quotes such as '"),
        (["MODEL", "FOLDERS", "out.csv"], "mod*, only folders: name a folder itself"),
        (["MODEL", "nothing*.csv", "out.csv"], "no file matches nothing*.csv"),
        (["MODEL", "", "out.csv"], "a path is empty: is a variable without a value in it?"),
        (["MODEL", "SOURCE", ""], "a path is empty: is a variable without a value in it?"),
        (["MODEL", "SOURCE", "FOREIGN", "out.csv"], "is the name of a file; 2 inputs need a folder, such as out/"),
        (
            ["MODEL", "SOURCE", "out.csv", "--threads", "1000000"],
            "predict: --threads is 1000000: it must be 256 or less.",
        ),
        (["MODEL", "SOURCE", "out.txt"], "tables end in .csv"),
        (["MODEL", "SOURCE", "SOURCE"], "overwritten by its own answer"),
        (["nowhere", "SOURCE", "out.csv"], "predict: there is no model or bundle nowhere"),
        (["MODEL", "FOREIGN", "out.csv"], "Foreign.csv: the table has no column"),
        (["MODEL", "SOURCE", "out.csv", "--part-rows", "0"], "predict: --part-rows is 0: it must be 1 or more."),
        (["MODEL", "SOURCE", "out.csv", "--workers", "-1"], "predict: --workers is -1: it must be 0 or more."),
        (["MODEL", "SOURCE", "out.csv", "--threads", "-2"], "predict: --threads is -2: it must be 0 or more."),
        (["MODEL", "BROKEN", "out.csv"], "is not Parquet"),
        (["MODEL", "SOURCE", "THERE"], "--overwrite replaces it"),
    ],
)
def test_refusals_are_one_sentence(
    model: Path, source: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Whatever cannot be done ends with status 2 and one line that says why, and leaves nothing behind."""
    places = {
        "MODEL": model,
        "SOURCE": source,
        "BROKEN": source.with_name("broken.parquet"),
        "THERE": source.with_name("there.csv"),
        "FOREIGN": source.with_name("Foreign.csv"),
        "FOLDERS": source.with_name("mod*"),
    }
    places["FOREIGN"].write_text("a,b\n1,2\n")
    places["BROKEN"].write_bytes(b"no table")
    places["THERE"].write_text("")
    before = sorted(source.parent.rglob("*"))
    given = [str(places.get(one, source.with_name(one) if one.startswith("out") else one)) for one in arguments]

    assert predict(*given) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert sorted(source.parent.rglob("*")) == before


class Terminal(io.StringIO):
    """A terminal that keeps what is drawn."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_the_bar_is_drawn_on_terminals_alone() -> None:
    """On a terminal the bar shows share, rows and speed, ten times a second at most; elsewhere nothing is written."""
    times = iter([0.0, 1.0, 1.05, 2.0])
    drawn, piped = Terminal(), io.StringIO()
    bar = Progress("rows.csv", 200, drawn, lambda: next(times))
    for rows in (0, 50, 100):
        bar.show(rows)
    Progress("rows.csv", 200, piped).show(100)

    assert piped.getvalue() == ""
    assert drawn.getvalue().count("rows.csv") == 2
    assert "[############            ] 50% 100 rows, 50 rows/s" in drawn.getvalue()


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_an_answer_has_the_separator_of_its_table(model: Path, source: Path, delimiter: str) -> None:
    """A CSV file of another delimiter has the bits of any other, and so has its answer, with the same separator."""
    path, target = source.with_name("rows.csv"), source.with_name("answers.csv")
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([NAMES, *ROWS])
    path.write_text(text.getvalue())
    assert predict(model, path, target, "--part-rows", 60) == 0

    lines = list(csv.reader(io.StringIO(target.read_text()), delimiter=delimiter))
    assert [line[: len(NAMES)] for line in lines] == list(
        csv.reader(io.StringIO(path.read_text()), delimiter=delimiter)
    )
    assert np.array([line[-3:] for line in lines[1:]], np.float32).tobytes() == expected(model).tobytes()


def test_a_tab_separated_answer_in_csv_has_commas(model: Path, source: Path) -> None:
    """Formats go by the endings: a TSV file asked for as CSV is separated by commas."""
    path, target = source.with_name("rows.tsv"), source.with_name("answers.csv")
    assert predict(model, source, path, "--answer", "append", "--prefix", "x_") == 0
    assert predict(model, path, target, "--extra", "ignore") == 0

    assert found(target).tobytes() == expected(model).tobytes()


def test_names_separated_by_another_sign_are_named(
    model: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table whose header looks like one long name is refused with what its ending asks for."""
    path = source.with_name("rows.tsv")
    path.write_text(",".join(NAMES) + "\n")

    assert predict(model, path, source.with_name("answers.csv")) == 2
    assert "one column, 'length_mm,island,count,seen,adult,grade,owned': column names must be separated by a tab." in (
        capsys.readouterr().err
    )


def written(path: Path, names: list[str], rows: list[list[Any]], quoting: Any, delimiter: str) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=quoting, delimiter=delimiter, lineterminator="\n")
        writer.writerows([names, *([text(value) for value in row] for row in rows)])
    return path


def text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("inputs", [INPUTS, NUMBERS], ids=["mixed", "numbers"])
@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".csv", ";"), (".tsv", "\t")])
@pytest.mark.parametrize("bad", [(), ("1,2",), ("x",)], ids=["good", "ragged", "wrong"])
@pytest.mark.parametrize("answer", ["append", "alone"])
def test_quotes_around_cells_change_no_byte(
    tmp_path: Path, inputs: list[Any], suffix: str, delimiter: str, bad: tuple[str, ...], answer: str
) -> None:
    """A table without quotes, whose lines are copied, has the answer of the same table with a quote around every cell."""
    model = make_bundle(tmp_path / "models", "m", task="regression", inputs=inputs).parent
    rows = random_rows(signature_of("regression", inputs), 60, seed=3)
    names = [feature["name"] for feature in inputs]
    for name, quoting in (("plain", csv.QUOTE_MINIMAL), ("quoted", csv.QUOTE_ALL)):
        source = written(
            tmp_path / f"{name}{suffix}", names, [*rows, *(list(line) for line in bad), *rows], quoting, delimiter
        )
        target = tmp_path / f"{name}-answer.csv"
        assert predict(model, source, target, "--answer", answer, "--on-error", "row") == 0

    assert (tmp_path / "plain-answer.csv").read_bytes() == (tmp_path / "quoted-answer.csv").read_bytes()
    assert '"' not in (tmp_path / "plain-answer.csv").read_text().partition("\n")[0]
