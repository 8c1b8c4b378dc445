"""What the clients ask besides plain predictions: models, readiness, coverage, explanations, progress."""

import asyncio
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from batchproof.service.client import AsyncClient, Client, RefusedError, Retries
from batchproof.service.client.options import Options
from batchproof.service.client.progress import Bar
from tests.bundles import INPUTS, make_bundle, random_rows, reseal, signature_of
from tests.live import Live, free_port, live

NAMES = [feature["name"] for feature in INPUTS]
ROWS = [dict(zip(NAMES, row, strict=True)) for row in random_rows(signature_of("multiclass", INPUTS), 70, seed=3)]
CONFORMAL = {
    "method": "split-conformal",
    "calibration_rows": 100,
    "coverages": [0.5, 0.9],
    "edges": [],
    "thresholds": [[0.2, 0.7]],
    "tested": {},
}
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve two versions of an exact classifier and a regression, with what a coverage is measured on."""
    models = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        made = make_bundle(models, "flowers", version, arithmetic="exact", seed=version)
        reseal(made, lambda content: content.update(uncertainty=CONFORMAL))
    made = make_bundle(models, "price", task="regression")
    reseal(made, lambda content: content.update(uncertainty=CONFORMAL))
    with live(models, "--versions", "all") as found:
        yield found


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: Live) -> Ask:
    """Return a function that calls a method of a client of the model `name`."""

    def through(method: str, *given: Any, name: str | None = "flowers", url: str = server.url, **named: Any) -> Any:
        async def awaited() -> Any:
            async with AsyncClient(url, name, retries=Retries(most=0)) as client:
                return await getattr(client, method)(*given, **named)

        if request.param:
            return asyncio.run(awaited())
        with Client(url, name, retries=Retries(most=0)) as client:
            return getattr(client, method)(*given, **named)

    return through


def test_models_and_one_of_them(ask: Ask) -> None:
    """The list has each model's newest version; one model is described by name and version, without a model of its own."""
    assert [(model.name, model.version, list(model.versions), model.task) for model in ask("models", name=None)] == [
        ("flowers", 2, [1, 2], "multiclass"),
        ("price", 1, [1], "regression"),
    ]
    older = ask("model", "flowers", 1, name=None)
    assert (older.version, older.target, list(older.classes)) == (1, "colour", ["red", "green", "blue"])
    assert [feature.name for feature in older.features] == NAMES
    assert (older.features[1].categories, older.features[1].missing) == (["Oslo", "Ærø"], True)
    assert (ask("model").version, ask("model", "price").classes) == (2, None)
    with pytest.raises(RefusedError, match="Did you mean 'flowers'"):
        ask("model", "flower")


def test_ready(ask: Ask) -> None:
    """A service that answers is ready; one that cannot be reached is not, and nobody waits for it."""
    assert ask("ready") is True
    assert ask("ready", url=f"http://127.0.0.1:{free_port()}") is False


def test_options_of_rows(ask: Ask) -> None:
    """Rows get the fields that were asked for, beside the same prediction."""
    plain = ask("predict", ROWS[:3])
    fuller = ask("predict", ROWS[:3], coverage=0.9, explain=True, detail=True)
    for before, after in zip(plain, fuller, strict=True):
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) == {"set", "coverage", "explanation", "unseen", "out_of_range", "saturated"}
    assert set(ask("predict", ROWS[0], name="price", coverage=0.5)) == {"value", "interval", "coverage"}
    with pytest.raises(RefusedError, match="coverage"):
        ask("predict", ROWS[0], coverage=0.999)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_options_of_frames(ask: Ask, make: Callable[[Any], Any]) -> None:
    """A frame gets a column for each number that the rows get, and a list of classes for a set."""
    rows = ask("predict", ROWS, coverage=0.9, explain=True, detail=True)
    frame = ask("predict", make(ROWS), coverage=0.9, explain=True, detail=True)
    added = [
        "set",
        "unseen",
        "out_of_range",
        "saturated",
        "score",
        "baseline",
        *(f"contribution_{name}" for name in NAMES),
    ]

    assert list(frame.columns)[-len(added) :] == added
    assert [list(labels) for labels in frame["set"]] == [row["set"] for row in rows]
    assert list(frame["saturated"]) == [row["saturated"] for row in rows]
    for name in NAMES:
        wanted = [row["explanation"]["contributions"][name] for row in rows]
        assert list(frame[f"contribution_{name}"]) == wanted
    plain = ask("predict", make(ROWS))
    assert np.asarray(frame["probability_red"]).tobytes() == np.asarray(plain["probability_red"]).tobytes()


def test_an_interval_is_two_columns(ask: Ask) -> None:
    """A regression's interval is its two ends as float32, for a frame without a row too."""
    frame = ask("predict", pd.DataFrame(ROWS), name="price", coverage=0.9)
    wanted = [row["interval"] for row in ask("predict", ROWS, name="price", coverage=0.9)]
    assert frame[["interval_low", "interval_high"]].to_numpy().tobytes() == np.array(wanted, np.float32).tobytes()
    empty = ask("predict", pd.DataFrame(ROWS).head(0), name="price", coverage=0.9, explain=True)
    assert (len(empty), empty["interval_low"].dtype, empty["score"].dtype) == (0, np.float32, np.float64)


@pytest.mark.parametrize(("features", "rows"), [(6, 126), (8, 31), (9, 31), (30, 8), (1000, 1)])
def test_explained_rows_go_in_smaller_requests(features: int, rows: int) -> None:
    """A request of explained rows runs no more rows than one of plain rows, but for a single one."""
    assert Options(explain=True).rows_a_request(features) == rows
    assert Options(coverage=0.9).rows_a_request(features) == 8192


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame])
def test_progress(ask: Ask, monkeypatch: pytest.MonkeyPatch, make: Callable[[Any], Any]) -> None:
    """After each request the rows that are answered, and all of them, are told."""
    monkeypatch.setattr("batchproof.service.client.options.ROWS_A_REQUEST", 30)
    calls: list[tuple[int, int]] = []
    ask("predict", make(ROWS), progress=lambda done, rows: calls.append((done, rows)))
    assert calls == [(30, 70), (60, 70), (70, 70)]


def test_the_bar(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    """True draws a line on standard error that ends with the last row; without it nothing is drawn."""
    ask("predict", ROWS, progress=True)
    drawn = capsys.readouterr()
    assert drawn.out == ""
    assert drawn.err.startswith("\r[##############################] 70 of 70 rows, ")
    assert drawn.err.endswith("rows/s\n")
    ask("predict", ROWS)
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_written_over() -> None:
    """Each step begins the line anew, and only the last one ends it; no row is a whole."""
    stream = io.StringIO()
    bar = Bar(stream)
    for done in (0, 50, 100):
        bar(done, 100)
    Bar(stream)(0, 0)
    assert stream.getvalue().count("\r") == 4
    assert stream.getvalue().count("\n") == 2
