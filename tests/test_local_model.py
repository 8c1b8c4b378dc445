"""A bundle in this process gives the bits of the service, for rows and for frames."""

import datetime as dt
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from batchproof import RefusedError, load_model
from batchproof.local_model import LocalModel
from batchproof.service.errors import BundleError
from tests.bundles import make_kinds, random_rows
from tests.live import Live, live

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("flowers", "numbers", "price")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of every kind of feature, one of numbers, and a regression."""
    return make_kinds(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Live]:
    """Serve all of them."""
    with live(models) as started:
        yield started


@pytest.fixture(params=KINDS)
def model(models: Path, request: pytest.FixtureRequest) -> LocalModel:
    """Load one of them."""
    return load_model(models / request.param)


@pytest.fixture
def flowers(models: Path) -> LocalModel:
    """Load the model that has every kind of feature."""
    return load_model(models / "flowers")


def named(model: LocalModel, rows: int) -> list[dict[str, Any]]:
    """Return rows of JSON values by name, missing ones among them."""
    names = [feature.name for feature in model.manifest.signature.inputs]
    return [dict(zip(names, row, strict=True)) for row in random_rows(model.manifest.signature, rows, seed=3)]


def outputs_of(predictions: list[dict[str, Any]]) -> np.ndarray:
    """Return the outputs [rows, classes or 1] float32."""
    rows = [list(one["probabilities"].values()) if "probabilities" in one else [one["value"]] for one in predictions]
    return np.array(rows, np.float32)


def added_of(frame: Any) -> np.ndarray:
    """Return the numbers among the added columns, [rows, classes or 1] float32."""
    names = [str(name) for name in (frame.column_names if isinstance(frame, pa.Table) else frame.columns)]
    wanted = [name for name in names if name.startswith("probability_")] or ["prediction"]
    return np.stack([np.asarray(frame[name]) for name in wanted], axis=1)


def test_rows_have_the_bits_of_the_service(model: LocalModel, server: Live) -> None:
    """Rows by name and as lists get the service's predictions, digit for digit, and its fingerprint."""
    rows = named(model, 300)
    body = json.dumps({"rows": rows}).encode()
    with urllib.request.urlopen(f"{server.url}/models/{model.manifest.name}/predict", body) as response:
        answer = json.load(response)

    assert model.predict(rows) == answer["predictions"]
    assert model.predict([list(row.values()) for row in rows]) == answer["predictions"]
    assert [model.predict(row) for row in rows[:20]] == answer["predictions"][:20]
    assert model.fingerprint == answer["model"]["fingerprint"]


@pytest.mark.parametrize(
    "make",
    [
        pd.DataFrame,
        lambda rows: pd.DataFrame(rows).convert_dtypes(),
        lambda rows: pd.DataFrame(rows, index=range(7, 7 + len(rows))).astype(object),
        lambda rows: pl.DataFrame(rows, infer_schema_length=None),
        pa.Table.from_pylist,
    ],
    ids=["pandas", "nullable", "objects", "polars", "arrow"],
)
@pytest.mark.parametrize("rows", [1, 70, 300])
def test_frames_have_the_bits_of_rows(model: LocalModel, make: Callable[[Any], Any], rows: int) -> None:
    """A frame of each library comes back as its kind, its own columns first, with the bits that its rows get."""
    wanted = named(model, rows)
    frame = make([{"note": place, **row} for place, row in enumerate(wanted)])
    predicted = model.predict(frame)
    names = list(predicted.column_names if isinstance(predicted, pa.Table) else predicted.columns)

    assert type(predicted) is type(frame)
    assert names[: len(wanted[0]) + 2] == ["note", *wanted[0], "prediction"]
    assert added_of(predicted).tobytes() == outputs_of(model.predict(wanted)).tobytes()
    if isinstance(frame, pd.DataFrame):
        assert predicted.index.equals(frame.index)


def test_a_long_frame_is_run_in_blocks(flowers: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that is longer than a block has the bits of one block, and a bad row keeps its number."""
    rows = named(flowers, 100)
    frame = pd.DataFrame(rows)
    wanted = flowers.predict(frame)
    monkeypatch.setattr("batchproof.service.tables.offline.local_frame.BLOCK_ROWS", 9)

    pd.testing.assert_frame_equal(flowers.predict(frame), wanted)
    frame.loc[[50, 51], "count"] = float("nan")
    with pytest.raises(RefusedError, match=r"^row 50, feature 'count': .* \(1 more in details\.\)$") as refused:
        flowers.predict(frame)
    assert [detail["row"] for detail in refused.value.details] == [50, 51]


def test_no_row_is_no_prediction(model: LocalModel) -> None:
    """An empty list gives an empty list, and a frame without rows gives its columns and the added ones."""
    frame = pd.DataFrame(named(model, 1)).head(0)

    assert model.predict([]) == []
    assert len(model.predict(frame)) == 0
    assert "prediction" in model.predict(frame).columns


def test_values_of_numpy_and_dates_are_values(flowers: LocalModel) -> None:
    """NumPy scalars, dates and NaN mean in a row what their JSON means."""
    plain = {
        "length_mm": None,
        "island": "Oslo",
        "count": 3,
        "seen": "2020-01-02",
        "adult": True,
        "grade": 2,
        "owned": None,
    }
    rich = {**plain, "length_mm": float("nan"), "count": np.int64(3), "seen": dt.date(2020, 1, 2), "adult": np.bool_(1)}

    assert flowers.predict(rich) == flowers.predict(plain)


def test_refusals_are_the_services(flowers: LocalModel, server: Live) -> None:
    """A bad row is a RefusedError with the status, code, sentence and details of the service's response."""
    rows: list[Any] = named(flowers, 3)
    rows[1] = {**rows[1], "count": "many", "islnd": "Oslo"}
    with pytest.raises(RefusedError) as refused:
        flowers.predict(rows)
    request = urllib.request.Request(f"{server.url}/models/flowers/predict", json.dumps({"rows": rows}).encode())
    with pytest.raises(urllib.error.HTTPError) as answered, urllib.request.urlopen(request):
        pass
    error = json.load(answered.value)["error"]

    assert (refused.value.status, refused.value.code) == (answered.value.code, error["code"])
    assert (refused.value.message, refused.value.details) == (error["message"], error["details"])


def test_a_bad_row_may_keep_its_place(flowers: LocalModel, server: Live) -> None:
    """With on_error "row" good rows are predicted and a bad one has its error, as in the service's response."""
    rows: list[Any] = named(flowers, 4)
    rows[2] = {**rows[2], "count": "many"}
    body = json.dumps({"rows": rows, "on_error": "row"}).encode()
    with urllib.request.urlopen(f"{server.url}/models/flowers/predict", body) as response:
        assert flowers.predict(rows, on_error="row") == json.load(response)["predictions"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("row", "predict takes a row .* not str"),
        (7, "not int"),
        (np.zeros((2, 7)), r"not ndarray; use array\.tolist\(\)"),
    ],
)
def test_anything_else_is_a_type_error(flowers: LocalModel, rows: Any, sentence: str) -> None:
    """A text, a number or an array is not rows, and the sentence says what is."""
    with pytest.raises(TypeError, match=sentence):
        flowers.predict(rows)


def test_frames_that_do_not_fit_are_refused(flowers: LocalModel) -> None:
    """A feature without a column, a column with an added name, a column given twice, values of several types: each a sentence."""
    frame = pd.DataFrame(named(flowers, 3))
    refused = {
        "has no column 'count'": frame.rename(columns={"count": "counts"}),
        "'prediction'": frame.assign(prediction=1),
        "more than one column": pd.concat([frame, frame[["count"]]], axis=1),
        "row 1, feature 'count'": frame.assign(count=[1, "two", 3]),
    }
    for sentence, bad in refused.items():
        with pytest.raises(RefusedError, match=sentence):
            flowers.predict(bad)
    with pytest.raises(ValueError, match="a frame is predicted as a whole"):
        flowers.predict(frame, on_error="row")


def test_a_frame_without_pyarrow_is_one_sentence(flowers: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames need pyarrow; where it is missing the error says how to get it."""
    frame = pd.DataFrame(named(flowers, 1))
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(
        ImportError, match="predicting a frame needs pyarrow, which is not installed: pip install 'pyarrow>="
    ):
        flowers.predict(frame)


def test_paths_and_arguments_are_checked(models: Path) -> None:
    """A folder that is no bundle is a BundleError that names it, and a wrong argument a ValueError."""
    assert load_model(str(models / "flowers" / "1")).manifest.version == 1
    assert "flowers version 1" in repr(load_model(models / "flowers", invariance="tile"))
    with pytest.raises(BundleError, match="nearest name there is 'flowers'"):
        load_model(models / "flower")
    with pytest.raises(BundleError, match="several models"):
        load_model(models)
    with pytest.raises(ValueError, match="threads must be 0 or more"):
        load_model(models / "flowers", threads=-1)
    with pytest.raises(ValueError, match="on_error is 'skip'"):
        load_model(models / "flowers").predict([], on_error="skip")  # type: ignore[call-overload]
