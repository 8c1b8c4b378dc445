"""Frames of pandas and polars in every type that holds a feature, and what is refused of them."""

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from batchproof.service.client import Client
from batchproof.service.client.codecs.dataframes import is_frame, parts
from tests.bundles import INPUTS, make_bundle
from tests.live import Live, live

ROWS = 40
NAMES = [feature["name"] for feature in INPUTS]
BIG = 2**53 + 1  # no float64
CATEGORIES = [
    {**feature, "categories": ["1", "2", str(BIG)]} if feature["name"] == "grade" else feature for feature in INPUTS
]
LENGTHS = [40.5, None, 42.0, 43.25]
ISLANDS = ["Oslo", None, "", "Ærø"]
SEEN = [
    text and dt.datetime.fromisoformat(text)
    for text in ("2020-02-29T12:30:00", None, "2001-01-01T00:00:00", "1999-12-31T23:59:59.250000")
]
OWNED = [True, None, False, True]
GRADES = [1, 2, BIG, 2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve a model of every kind of feature, with a category that no float64 holds."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, "flowers", inputs=CATEGORIES)
    with live(models) as found:
        yield found


def repeated(values: list[Any]) -> list[Any]:
    return [values[place % len(values)] for place in range(ROWS)]


COLUMNS = {
    "length_mm": repeated(LENGTHS),
    "island": repeated(ISLANDS),
    "count": repeated([3, 4, 5, 6]),
    "seen": repeated(SEEN),
    "adult": repeated([True, False, True, True]),
    "grade": repeated(GRADES),
    "owned": repeated(OWNED),
}
OBJECTS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
PLAIN = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in COLUMNS.items()})
POLARS = pl.DataFrame(COLUMNS)
ARROW = pa.table(COLUMNS)
TOKYO = pd.to_datetime(pd.Series(COLUMNS["seen"])).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")

FRAMES: dict[str, Callable[[], Any]] = {
    "pandas, objects": lambda: PLAIN,
    "pandas, inferred": lambda: pd.DataFrame(COLUMNS),
    "pandas, nullable types": lambda: pd.DataFrame(COLUMNS).convert_dtypes(),
    "pandas on Arrow": lambda: ARROW.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas, string": lambda: PLAIN.astype({"island": "string"}),
    "pandas, category": lambda: PLAIN.astype({"island": "category", "grade": "category"}),
    "pandas, decimals": lambda: PLAIN.assign(
        length_mm=[None if value is None else Decimal(str(value)) for value in COLUMNS["length_mm"]]
    ),
    "pandas, a time zone": lambda: PLAIN.assign(seen=TOKYO),
    "pandas, nanoseconds": lambda: PLAIN.assign(seen=pd.Series(COLUMNS["seen"], dtype="datetime64[ns]")),
    "pandas, small floats": lambda: PLAIN.assign(length_mm=pd.Series(COLUMNS["length_mm"], dtype="float32")),
    "pandas, true and false as numbers": lambda: PLAIN.assign(
        adult=[int(value) for value in COLUMNS["adult"]],
        owned=[None if value is None else float(value) for value in COLUMNS["owned"]],
    ),
    "pandas, index of floats": lambda: PLAIN.set_index(np.linspace(0, 1, ROWS)),
    "polars": lambda: POLARS,
    "polars, lazy": POLARS.lazy,
    "polars, categorical": lambda: POLARS.with_columns(pl.col("island").cast(pl.Categorical)),
    "polars, enum": lambda: POLARS.with_columns(pl.col("island").cast(pl.Enum(["Oslo", "", "Ærø"]))),
    "polars, a time zone": lambda: POLARS.with_columns(
        pl.col("seen").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    ),
    "polars, milliseconds": lambda: POLARS.with_columns(pl.col("seen").cast(pl.Datetime("ms"))),
    "polars, decimals": lambda: POLARS.with_columns(pl.col("length_mm").cast(pl.Decimal(10, 2))),
    "polars, small integers": lambda: POLARS.with_columns(pl.col("count").cast(pl.UInt8)),
    "polars, objects": lambda: POLARS.with_columns(pl.Series("island", COLUMNS["island"], dtype=pl.Object)),
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("binary_rows", [1, 1000], ids=["tensors", "json"])
def test_every_type_of_a_column_means_its_values(
    server: Live, monkeypatch: pytest.MonkeyPatch, kind: str, binary_rows: int
) -> None:
    """A frame of any types gets the bits of its rows, as tensors and as JSON."""
    monkeypatch.setattr("batchproof.service.client.codecs.frame_codec.BINARY_ROWS", binary_rows)
    with Client(server.url, "flowers") as client:
        wanted = np.array([one["probabilities"]["red"] for one in client.predict(OBJECTS)], np.float32)
        answer = client.predict(FRAMES[kind]())

    assert np.asarray(answer["probability_red"], np.float32).tobytes() == wanted.tobytes()
    assert list(answer.columns)[: len(NAMES)] == NAMES


def test_a_lazy_frame_comes_back_with_its_rows(server: Live) -> None:
    """The answer to a lazy frame is a frame."""
    with Client(server.url, "flowers") as client:
        assert type(client.predict(POLARS.lazy())) is pl.DataFrame


def test_a_repeated_column_is_one_sentence(server: Live) -> None:
    """Two columns of one feature are refused before anything is asked; other repeated columns stay."""
    twice = pd.concat([PLAIN, PLAIN[["island"]]], axis=1)
    others = pd.concat([PLAIN, pd.DataFrame(np.zeros((ROWS, 2)), columns=["note", "note"])], axis=1)
    with Client(server.url, "flowers") as client:
        with pytest.raises(ValueError, match=r"^the frame has 2 columns 'island'; keep one of them$"):
            client.predict(twice)
        assert list(client.predict(others).columns)[7:9] == ["note", "note"]


def test_numbered_columns_feed_numbered_features(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A column named by the number 3 is the feature "3", as it was in training."""
    models = tmp_path_factory.mktemp("models")
    inputs = [
        {"name": str(place), "kind": "numeric", "value_type": "float", "missing": True, "range": [-1, 1]}
        for place in range(3)
    ]
    make_bundle(models, "numbers", inputs=inputs)
    frame = pd.DataFrame(np.random.default_rng(1).uniform(-1, 1, (ROWS, 3)))
    with live(models) as server, Client(server.url, "numbers") as client:
        answer = client.predict(frame)
        wanted = [one["probabilities"]["red"] for one in client.predict(frame.to_numpy().tolist())]
    assert answer["probability_red"].to_numpy().tobytes() == np.array(wanted, np.float32).tobytes()


def test_parts_are_rows_by_place() -> None:
    """A frame is cut by the places of its rows, whatever its index says."""
    frame = pd.DataFrame({"a": range(5)}, index=[0.0, 0.5, 1.0, 1.5, 2.0])
    assert [part["a"].tolist() for part in parts(frame, 2)] == [[0, 1], [2, 3], [4]]
    assert [len(part) for part in parts(pl.DataFrame({"a": range(5)}), 2)] == [2, 2, 1]


class Table(pd.DataFrame):  # type: ignore[misc]
    """A frame of a library that builds on pandas."""


def test_frames_of_other_libraries_that_are_frames_of_pandas() -> None:
    """A subclass of a frame is a frame; other things with columns are not."""
    assert [is_frame(value) for value in (Table(), PLAIN, POLARS, POLARS.lazy())] == [True] * 4
    assert [is_frame(value) for value in (PLAIN["island"], ARROW, [PLAIN], None)] == [False] * 4
