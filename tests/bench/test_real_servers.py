"""Real tables as servers: every format carries the same rows, trees get the codes of the engine, ratios are to the best."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.features.columns import encode_columns
from batchproof.service.inference.model import Model
from bench import row_costs, table_bodies
from bench.bodies import Request, WrongAnswer
from bench.contenders import Contender
from bench.loads import Result
from bench.make_model import MIXED, build, rows_of, write_bundle
from bench.peers import forest, real
from bench.peers.catalogue import SERVERS
from bench.real_bundles import side_by_side
from bench.rounds import Measured
from bench.server import Launch

KINDS = ("named", "positional", "csv", "arrow")
ROWS = 4


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder: Path = tmp_path_factory.mktemp("real")
    write_bundle(MIXED, folder, build(MIXED).SerializeToString())
    return row_costs.loaded(folder / MIXED.name / "1")


@pytest.fixture(scope="module")
def asked(served: Model) -> pa.Table:
    columns = list(zip(*rows_of(MIXED, ROWS, 1), strict=True))
    columns[-1] = (None, *columns[-1][1:])  # the last column is a category
    return pa.table([pa.array(column) for column in columns], names=list(served.encoder.names))


@pytest.fixture(scope="module")
def requests(served: Model, asked: pa.Table) -> dict[str, Request]:
    columns = {name: asked[name].to_pylist() for name in asked.column_names}
    arrays = encode_columns(served.manifest.signature, columns)

    def answer(rows: int) -> np.ndarray:
        return served.runner.run([arrays.take(slice(0, rows))])[0]["probabilities"]

    return table_bodies.requests(asked, (1, ROWS), answer, is_class=True)


@pytest.mark.parametrize("kind", KINDS)
def test_formats_carry_the_same_rows(kind: str, served: Model, asked: pa.Table, requests: dict[str, Request]) -> None:
    """Whatever the format, the service reads the very numbers and codes of the table's columns, a missing one too."""
    wanted = encode_columns(served.manifest.signature, {name: asked[name].to_pylist() for name in asked.column_names})

    name = f"{kind}_{ROWS}"
    found = row_costs.feeds(served, name, requests[name].body)

    assert [array.tobytes() for array in found if array is not None] == [
        array.tobytes() for array in wanted if array is not None
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_compared_in_every_format(kind: str, served: Model, requests: dict[str, Request]) -> None:
    """The service's answer to a format is right, and the same answer to other rows is not."""
    name = f"{kind}_{ROWS}"
    written = row_costs.parts(served, name, requests[name].body)["writing"]()
    content = getattr(written, "body", written)

    requests[name].compare(content, {})
    with pytest.raises(WrongAnswer):
        requests[f"{kind}_1"].compare(content, {})


def test_costs_have_every_part(served: Model, requests: dict[str, Request], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request of a load has costs of its own, and a row in a run of many costs less than one that runs alone."""
    monkeypatch.setattr(row_costs, "read", lambda _: None)  # the bundle of this test has no weights
    monkeypatch.setattr(row_costs, "network", lambda _, rows: lambda: rows)
    wanted = {"A": ("named_1", requests["named_1"].body), "B": ("named_1", requests["named_1"].body)}

    found = row_costs.measure(served, wanted, {"A": 1, "B": 64}, 0.02)

    assert found.keys() == wanted.keys()
    assert 0 < found["B"].front < found["A"].front
    assert min(found["A"].reading, found["A"].writing) > 0


def signature() -> Signature:
    """Return a feature of every kind, numbers and categories in turns."""
    common: dict[str, Any] = {"missing": True}
    return Signature(
        inputs=(
            Feature(name="colour", kind="categorical", value_type="string", categories=("red", "blue"), **common),
            Feature(name="size", kind="numeric", value_type="float", **common),
            Feature(name="rooms", kind="categorical", value_type="integer", categories=("1", "2"), **common),
            Feature(name="day", kind="date", value_type="date", **common),
            Feature(name="new", kind="categorical", value_type="boolean", categories=("false", "true"), **common),
            Feature(name="old", kind="numeric", value_type="boolean", **common),
        ),
        target="price",
    )


def test_trees_get_what_the_engine_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of JSON become the same numbers and codes in the servers of the trees as in the service."""
    values = {
        "colour": ["blue", None, "green"],
        "size": [1.5, None, 3.0],
        "rooms": [2, None, 7],
        "day": ["2024-02-29", None, "2024-03-01T12:30:00"],
        "new": [True, None, False],
        "old": [True, None, False],
    }
    (tmp_path / "columns.json").write_text(json.dumps(forest.columns(signature())))
    given: list[np.ndarray] = []

    class Booster:
        def __init__(self, model_file: Path) -> None:
            assert model_file == tmp_path / "trees_7.txt"

        def predict(self, x: np.ndarray, num_threads: int) -> np.ndarray:
            given.append(x)
            return np.zeros(len(x) * num_threads)

    lightgbm: Any = ModuleType("lightgbm")
    lightgbm.Booster = Booster
    monkeypatch.setitem(sys.modules, "lightgbm", lightgbm)
    monkeypatch.setenv("PEER_FOREST", str(tmp_path))
    monkeypatch.setenv("PEER_TREES", "7")
    spec = importlib.util.spec_from_file_location("trees", SERVERS / "trees.py")
    assert spec is not None
    assert spec.loader is not None
    trees = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trees)

    trees.Forest().predict(list(zip(*values.values(), strict=True)))

    np.testing.assert_array_equal(given[0], side_by_side(encode_columns(signature(), values)))


def measured(name: str, loads: dict[str, float]) -> Measured:
    results = {load: [Result(rate, rate, 1.0, 2.0, 3.0, 0, 0, 1e6 / rate, 0.0)] for load, rate in loads.items()}
    return Measured(Contender(name, 1, Launch(()), {}), results)


def test_ratios_are_to_the_best_of_each_forest() -> None:
    """Our rate is divided by the highest and our cost by the lowest of the servers with the same trees, also of rows sent another way."""
    ours = measured("Batchproof float32, 1 worker", {"D-csv": 100.0, "D-named": 100.0})
    every = [
        ours,
        measured("Batchproof float32, 2 workers", {"D-csv": 900.0}),
        measured("mosec, 2 workers, 100 trees", {"D": 200.0, "D-named": 50.0}),
        measured("FastAPI, 2 workers, 100 trees", {"D-named": 80.0}),
        measured("FastAPI, 2 workers, 1000 trees", {"D-named": 10.0}),
    ]

    assert real.ratios(ours, "D-csv", every, "rows_per_s", max) == "0.50 (100 trees), 10.00 (1000 trees)"
    assert real.ratios(ours, "D-named", every, "rows_per_s", max) == "1.25 (100 trees), 10.00 (1000 trees)"
    assert real.ratios(ours, "D-named", every, "server_cpu_us", min) == "0.80 (100 trees), 0.10 (1000 trees)"


def test_a_load_without_an_answer_has_no_line() -> None:
    """The table of a load has the servers that answered it."""
    every = [measured("Batchproof float32, 1 worker", {"A-named": 5.0}), measured("mosec, 2 workers, 100 trees", {})]

    lines = real.text("adult", every, ["A-named"])

    assert "### adult, A-named: 1 row a request, 1 connection" in lines[0]
    assert [line for line in lines if "mosec" in line] == []


def test_unknown_tables_are_refused(tmp_path: Path) -> None:
    """A folder without meta.json, and a table that it lacks, end with what would be right."""
    with pytest.raises(SystemExit, match=r"needs a meta\.json"):
        real.targets_of(tmp_path, ["adult"])
    (tmp_path / "meta.json").write_text('{"adult": {"target": "income"}, "gone": {"target": "x"}}')
    (tmp_path / "adult.parquet").touch()
    with pytest.raises(SystemExit, match="has no table 'gone'; it has adult"):
        real.targets_of(tmp_path, ["gone"])

    assert real.targets_of(tmp_path, ["adult"]) == {"adult": "income"}
