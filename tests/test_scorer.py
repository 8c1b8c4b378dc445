"""Arrow tables scored in this process, and scorers that travel to other processes."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchproof import Scorer
from batchproof.scorer import OtherBitsError, Worker
from batchproof.service.__main__ import main
from batchproof.service.client import RefusedError
from batchproof.service.errors import ServiceError
from tests.bundles import INPUTS, make_bundle, random_rows, signature_of


@pytest.fixture(scope="module", params=["multiclass", "regression"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"), task=request.param)


def table(rows: int = 500, seed: int = 0) -> pa.Table:
    """Return rows with every kind of feature, missing and unseen values, and an id."""
    drawn = random_rows(signature_of(), rows, seed)
    columns = {feature["name"]: [row[place] for row in drawn] for place, feature in enumerate(INPUTS)}
    return pa.table({"id": list(range(rows)), **columns})


def test_a_scorer_does_what_the_command_does(bundle: Path, tmp_path: Path) -> None:
    """A table has the columns and bits that `batchproof predict` gives the same rows."""
    import pyarrow.parquet as pq

    pq.write_table(table(), tmp_path / "in.parquet")
    assert (
        main(["predict", str(bundle), str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), "--extra", "ignore"])
        == 0
    )

    assert Scorer(bundle, extra="ignore")(table()).equals(pq.read_table(tmp_path / "out.parquet"))


@pytest.mark.parametrize("rows", [1, 7, 100, 499])
def test_partitions_change_no_bit(bundle: Path, rows: int) -> None:
    """However a table is cut into batches, and in whatever order they are scored, each row has the same bits."""
    scorer = Scorer(bundle, extra="ignore")
    whole = scorer(table())
    batches = table().to_batches(max_chunksize=rows)
    parts = {place: scorer(batch) for place, batch in reversed(list(enumerate(batches)))}

    assert all(isinstance(part, pa.RecordBatch) for part in parts.values())
    assert pa.Table.from_batches([parts[place] for place in sorted(parts)]).equals(whole.combine_chunks())


def test_the_schema_is_known_before(bundle: Path) -> None:
    """`schema` gives the columns of the answer without a row, for every choice of parameters."""
    for options in (
        {"extra": "ignore"},
        {"extra": "ignore", "answer": "alone"},
        {"extra": "ignore", "on_error": "row", "prefix": "p_"},
    ):
        scorer = Scorer(bundle, **options)
        for rows in (0, 3):
            assert scorer(table().slice(0, rows)).schema == scorer.schema(table().schema)


def test_columns_that_do_not_fit_are_refused_early(bundle: Path) -> None:
    """A missing feature, an extra column or a name that is taken is refused by `schema`, in the command's words."""
    for changed, sentence in (
        (table().drop_columns(["island"]), "has no column 'island'"),
        (table(), "has no feature 'id'"),
    ):
        with pytest.raises(ServiceError, match=sentence):
            Scorer(bundle).schema(changed.schema)
    taken = table().append_column("prediction", pa.array(np.zeros(500)))
    with pytest.raises(ServiceError, match="column 'prediction' has the same name as a result column"):
        Scorer(bundle, extra="ignore").schema(taken.schema)


def test_bad_rows_stop_or_are_named(bundle: Path) -> None:
    """A bad row stops the table with its number and feature, or with on_error="row" has its error in its place."""
    counts = table()["count"].to_pylist()
    bad = table().set_column(3, "count", pa.array([None if row == 300 else count for row, count in enumerate(counts)]))
    with pytest.raises(ServiceError, match="row 300, feature 'count'"):
        Scorer(bundle, extra="ignore")(bad)
    answer = Scorer(bundle, extra="ignore", on_error="row")(bad)
    assert [row for row, error in enumerate(answer["error"].to_pylist()) if error] == [300]
    assert answer["prediction"].null_count == 1


def test_a_scorer_travels_without_its_folder(bundle: Path, tmp_path: Path) -> None:
    """A pickled scorer scores in another process, also where the bundle's folder is not."""
    scorer = Scorer(bundle, extra="ignore")
    (tmp_path / "job").write_bytes(pickle.dumps((Worker(scorer), table())))
    code = "import pickle, sys; w, t = pickle.loads(open(sys.argv[1], 'rb').read()); sys.stdout.buffer.write(pickle.dumps(w(t)))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "job")], capture_output=True, check=True, cwd=tmp_path
    )

    assert pickle.loads(done.stdout).equals(scorer(table()))
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(scorer))))
    assert again(table()).equals(scorer(table()))


def test_other_bits_fail_the_job_or_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose probe rows have other bits fails with both hosts, or warns; an exact model needs no comparison."""
    worker = Worker(Scorer(make_bundle(tmp_path / "a"), extra="ignore"))
    reporting = Worker(Scorer(make_bundle(tmp_path / "b"), extra="ignore"), "report")
    exact = Worker(Scorer(make_bundle(tmp_path / "c", arithmetic="exact"), extra="ignore"))
    monkeypatch.setattr(Scorer, "digest", "another")
    monkeypatch.setattr(Scorer, "host", {"cpu_features": ["another"]})
    with pytest.raises(
        OtherBitsError, match=r"the workers do not compute the same bits.*Here: .*another.*there: .*cpu_features"
    ):
        worker(table())
    assert reporting(table()).num_rows == 500
    assert "do not compute the same bits" in caplog.text
    assert exact(table()).num_rows == 500
    with pytest.raises(ValueError, match="other_bits is 'ignore'"):
        Worker(exact.scorer, "ignore")  # type: ignore[arg-type]


def test_options_are_checked(bundle: Path) -> None:
    """An unknown option, or a value that an option does not have, is refused when the scorer is made."""
    wrong: list[dict[str, Any]] = [{"extras": "ignore"}, {"extra": "drop"}, {"answer": "both"}, {"threads": -1}]
    for options in wrong:
        with pytest.raises((TypeError, ValueError)):
            Scorer(bundle, **options)


@pytest.mark.parametrize("wrong", [{"a": [1.0]}, [1.0], None])
def test_what_is_no_arrow_table_is_refused(wrong: Any) -> None:
    """A frame of another library, or a dictionary, is refused by its type, with what would be right."""
    with pytest.raises(TypeError, match=f"not builtins.{type(wrong).__name__}. pyarrow.Table.from_pandas"):
        Scorer("models/penguins")(wrong)


def test_refusals_spell_options_as_python_does(bundle: Path) -> None:
    """A message that names an option names the argument as a caller of Python writes it."""
    with pytest.raises(ServiceError, match='extra="ignore" copies such columns'):
        Scorer(bundle).schema(table().append_column("more", [[1] * table().num_rows]).schema)
    bad = table().set_column(3, "count", pa.array([None] * table().num_rows, pa.int64()))
    with pytest.raises(ServiceError, match='on_error="row" answers the good rows'):
        Scorer(bundle, extra="ignore")(bad)
    taken = table().append_column("prediction", [[1] * table().num_rows]).schema
    with pytest.raises(ServiceError, match=r'prefix="…".*answer="alone"'):
        Scorer(bundle, extra="ignore").schema(taken)


def test_wrong_options_say_what_is_right(bundle: Path) -> None:
    """An unknown option names the nearest one; a value of another type, or out of range, names what it must be."""
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        (
            {"exta": "ignore"},
            TypeError,
            r"there is no option 'exta'. Did you mean 'extra'\? The options are extra, answer",
        ),
        ({"threads": "two"}, TypeError, "threads is 'two'; it must be of the type int"),
        ({"threads": 1.5}, TypeError, "threads is 1.5; it must be of the type int"),
        ({"threads": True}, TypeError, "threads is True; it must be of the type int"),
        ({"prefix": None}, TypeError, "prefix is None; it must be of the type str"),
        ({"threads": 10**6}, ValueError, "threads is 1000000; it must be between 0 and 256"),
    ]
    for options, kind, sentence in wrong:
        with pytest.raises(kind, match=sentence):
            Scorer(bundle, **options)
    with pytest.raises(TypeError, match="takes the path or the address of a bundle, not NoneType"):
        Scorer(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes a pyarrow.Schema, such as table.schema, not pyarrow.lib.Table"):
        Scorer(bundle).schema(table())  # type: ignore[arg-type]


def test_a_refusal_travels_between_processes(bundle: Path) -> None:
    """What a worker raises arrives whole where the job began."""
    bad = table().set_column(3, "count", pa.array([None] * table().num_rows, pa.int64()))
    with pytest.raises(ServiceError) as raised:
        Scorer(bundle, extra="ignore")(bad)
    arrived = pickle.loads(pickle.dumps(raised.value))
    assert (type(arrived), arrived.args, arrived.__dict__) == (ServiceError, raised.value.args, raised.value.__dict__)
    assert arrived.details
    refused = RefusedError(422, "invalid_rows", "A sentence.", [{"row": 1}])
    assert pickle.loads(pickle.dumps(refused)).__dict__ == refused.__dict__
