"""Values as databases, NumPy and frames return them, and what the client makes of them."""

import datetime as dt
import sqlite3
from collections import namedtuple
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from batchproof.service.client import Client, RefusedError, Retries
from batchproof.service.client.codecs.values import UnreadableValueError, json_row, json_value
from tests.bundles import INPUTS, make_kinds, random_rows, signature_of
from tests.live import Live, live

TOKYO, LONDON_1840 = ZoneInfo("Asia/Tokyo"), ZoneInfo("Europe/London")
NOON = dt.datetime.fromisoformat("2024-02-29T12:30:00")  # of no time zone
NAMES = [feature["name"] for feature in INPUTS]
ROW = dict(zip(NAMES, random_rows(signature_of("multiclass", INPUTS), 1, seed=2)[0], strict=True))
GOOD: dict[str, Any] = {**ROW, "length_mm": 40.5, "island": "Oslo", "seen": "2020-02-29T12:30:00Z", "grade": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve a model of every kind of feature."""
    with live(make_kinds(tmp_path_factory.mktemp("models"))) as found:
        yield found


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        (float("nan"), None),
        (np.float32("nan"), None),
        (np.datetime64("NaT", "us"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (Decimal("NaN"), None),
        ("", ""),
        (np.str_("a"), "a"),
        (np.bool_(1), True),
        (np.int64(-(2**63)), -(2**63)),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.1), 0.10000000149011612),
        (np.longdouble(0.5), 0.5),
        (np.array(7), 7),
        (Decimal("12.50"), 12.5),
        (Decimal(9007199254740993), 9007199254740993),
        (Decimal("1E-400"), 0.0),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (NOON, "2024-02-29T12:30:00"),
        (dt.datetime(2024, 2, 29, 12, 30, tzinfo=TOKYO), "2024-02-29T12:30:00+09:00"),
        (dt.datetime(1840, 1, 1, tzinfo=LONDON_1840), "1840-01-01T00:01:15+00:00"),
        (dt.time(12, 30), "12:30:00.000000"),
        (pd.Timestamp("2024-02-29 12:30:00.000000001"), "2024-02-29T12:30:00.000000001"),
        (np.datetime64("2024-02-29"), "2024-02-29"),
        (np.datetime64("2024-02-29T12:30:00.123456789"), "2024-02-29T12:30:00.123456"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_value_has_one_form_in_json(value: Any, wanted: Any) -> None:
    """Each value of Python, NumPy and pandas is the JSON value that means the same, of the plain type."""
    found = json_value(value)
    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("inf"), "expected a finite number within float64"),
        (np.float32("-inf"), "expected a finite number"),
        (Decimal("Infinity"), "expected a finite number"),
        (Decimal("1E+400"), "expected a finite number"),
        (1j, "got complex of Python"),
        (b"abc", "got bytes of Python"),
        ([1], "got list of Python"),
        (dt.timedelta(days=1), "got timedelta of Python"),
        (np.timedelta64(1, "D"), "got NumPy's timedelta64"),
        (pd.Timedelta("1D"), "got Timedelta of Python"),
        (np.complex64(1), "got NumPy's complex64"),
    ],
)
def test_what_json_has_no_form_for_is_named(value: Any, words: str) -> None:
    """An infinite number, a duration, bytes and the like are refused with what would be right."""
    with pytest.raises(UnreadableValueError, match=words):
        json_value(value)


def test_rows_that_name_their_values_are_read_by_name() -> None:
    """A database's row, a named tuple and a pandas Series are rows by name; a list and a tuple go by their order."""
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    row = database.execute("select 1.5 as b, 'x' as a").fetchone()
    named = namedtuple("named", "b a")(1.5, "x")  # noqa: PYI024 - as libraries make them

    for value in (row, named, pd.Series({"b": 1.5, "a": "x"})):
        assert json_row(value) == {"b": 1.5, "a": "x"}
    assert json_row((1.5, "x")) == json_row([1.5, "x"]) == [1.5, "x"]
    assert json_row(np.array([1.5, 2.0])) == [1.5, 2.0]
    database.close()


EQUAL = [
    {"seen": dt.datetime.fromisoformat("2020-02-29T12:30:00")},
    {"seen": dt.datetime(2020, 2, 29, 21, 30, tzinfo=TOKYO)},
    {"seen": pd.Timestamp("2020-02-29T12:30:00Z")},
    {"seen": np.datetime64("2020-02-29T12:30")},
    {"length_mm": Decimal("40.5"), "grade": Decimal(2)},
    {"length_mm": np.float32(40.5), "grade": np.int8(2)},
    {"grade": 2.0},
]


@pytest.mark.parametrize("other", EQUAL, ids=str)
def test_rows_and_frames_mean_the_same(server: Live, other: dict[str, Any]) -> None:
    """Values that are equal get equal answers, in a row and in frames that go as JSON and as tensors."""
    row = {**GOOD, **other}
    with Client(server.url, "flowers") as client:
        wanted = client.predict(GOOD)
        assert client.predict(row) == wanted
        assert client.predict(pd.Series(row)) == wanted
        for rows in (1, 40):
            answer = client.predict(pd.DataFrame([row] * rows))
            assert answer["probability_red"].unique().tolist() == [np.float32(wanted["probabilities"]["red"])]


def test_a_value_without_a_form_is_a_bad_row(server: Live) -> None:
    """It is refused like any bad row, with its number, or gets its error in its place; good rows are answered."""
    rows = [GOOD, {**GOOD, "length_mm": float("inf")}, {**GOOD, "count": None}, {**GOOD, "seen": dt.timedelta(1)}, GOOD]
    with Client(server.url, "flowers", retries=Retries(most=0)) as client:
        with pytest.raises(RefusedError, match="row 1, feature 'length_mm': expected a finite number"):
            client.predict(rows[:2])
        with pytest.raises(RefusedError, match=r"row 3, feature 'seen': .*got timedelta of Python") as refused:
            client.predict(rows)
        answers = client.predict(rows, on_error="row")
        wanted = client.predict(GOOD)
        alone = client.predict(rows[1], on_error="row")

    assert (refused.value.status, refused.value.code) == (422, "invalid_rows")
    assert [detail["row"] for detail in refused.value.details] == [3]
    assert [answers[0], answers[4]] == [wanted, wanted]
    errors = [answer["error"] for answer in answers[1:4]]
    assert [error["code"] for error in errors] == ["invalid_row"] * 3
    assert [error["message"].partition(":")[0] for error in errors] == [
        f"row {row}, feature '{name}'" for row, name in ((1, "length_mm"), (2, "count"), (3, "seen"))
    ]
    assert alone["error"]["message"].startswith("row 0, feature 'length_mm'")


def test_refused_rows_are_numbered_as_the_caller_has_them(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a list or a frame goes in several requests, a refusal names the row of the whole."""
    monkeypatch.setattr("batchproof.service.client.options.ROWS_A_REQUEST", 40)
    rows = [GOOD] * 95 + [{**GOOD, "count": None}]
    with Client(server.url, "flowers") as client:
        for given in (rows, pd.DataFrame(rows)):
            with pytest.raises(RefusedError, match=r"^row 95, feature 'count'") as refused:
                client.predict(given)
            assert (refused.value.status, refused.value.details[0]["row"]) == (422, 95)
        assert client.predict(rows, on_error="row")[95]["error"]["message"].startswith("row 95, feature 'count'")


def test_what_is_no_row_is_left_to_the_service(server: Live) -> None:
    """A text in place of a row is refused in the service's words."""
    with Client(server.url, "flowers") as client, pytest.raises(RefusedError, match="a row is an object"):
        client.predict(["abc"])
