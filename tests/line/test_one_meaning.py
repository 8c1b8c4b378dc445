"""One meaning of a value through every door and for every number of rows: missing values, empty texts, numbers, dates.

A model is fitted with the estimator, exported and served. Each kind of value is put into a row; what the native route
answers for that row alone is what every other door must answer for it, among any number of others, or refuse too.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from pyarrow import ipc, parquet
from tritonclient.utils import InferenceServerException

from batchproof.local_model import LocalModel, load_model
from batchproof.service.client import Client, RefusedError
from batchproof.training.estimators.estimator import BatchNormMLPClassifier
from tests.live import Live, free_port, live

pytestmark = pytest.mark.slow

SIZES = (1, 2, 31, 32, 33, 8202)
GOOD = {"size": 0.5, "count": 3, "colour": "red", "day": "2024-03-01", "adult": True, "grade": 2, "owned": False}
NAMES = list(GOOD)

# Values that the native route answers. Each is one row: GOOD with this value in the feature's place.
ACCEPTED: list[tuple[str, Any]] = [
    *(("size", value) for value in (None, 1.5, -0.0, 7, 2**53 + 1, 1e-300)),
    *(("count", value) for value in (4, 5.0)),
    *(
        ("colour", value)
        for value in (None, "", "blue", "unseen", "NA", "null", " red", "é", "a:b", "None", "2024-03-01")
    ),
    *(("day", value) for value in (None, "2020-02-29", "2020-02-29T12:30:00Z", "2020-02-29T21:30:00.25+09:00")),
    *(("adult", value) for value in (None, True, False, 1, 0)),
    *(("grade", value) for value in (None, 1, 99, -3, 2.0)),
    *(("owned", value) for value in (None, True, False)),
]
# Values that it refuses.
REFUSED: list[tuple[str, Any]] = [
    *(("size", value) for value in ("1.5", "", True)),
    *(("count", value) for value in (None, "3")),
    *(("colour", value) for value in (3, True)),
    *(("day", value) for value in (5, "29.02.2024", "")),
    *(("adult", value) for value in (7, 0.5, "true")),
    *(("grade", value) for value in (1.5, "1")),
    *(("owned", value) for value in (2, "true")),
]
ROWS = [{**GOOD, name: value} for name, value in ACCEPTED]
NO_CSV = {"", "NA", "null", "None"}  # texts that a text table has no spelling for: docs/tables.md

Rows = Sequence[dict[str, Any]]
Door = Callable[["House", Rows], Any]  # -> probability of the second class [rows] float32, or None: cannot say it


class Refused(Exception):  # noqa: N818 - not an error of the test
    """The door refused the rows."""


@dataclass(frozen=True)
class House:
    """The same model at every door."""

    server: Live
    grpc_address: str
    name: str
    estimator: BatchNormMLPClassifier
    local: LocalModel

    def post(self, path: str, content: bytes, kind: str = "application/json") -> httpx.Response:
        """Return the answer; raises Refused."""
        response = httpx.post(self.server.url + path, content=content, headers={"content-type": kind}, timeout=60)
        if response.status_code != 200:
            assert response.status_code in (400, 422), response.text
            raise Refused(response.text)
        return response


def training_frame(*, knows_empty: bool) -> pd.DataFrame:
    """Return rows with a missing value in each column but `count`, and an empty text where the model is to know it."""
    random = np.random.default_rng(7)
    colours = ["red", "blue", "NA", ""] if knows_empty else ["red", "blue", "NA"]
    frame = pd.DataFrame(
        {
            "size": random.normal(size=240),
            "count": random.integers(0, 9, 240),
            "colour": random.choice(colours, 240),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 300, 240), "D"),
            "adult": random.random(240) > 0.5,
            "grade": random.integers(1, 4, 240),
            "owned": random.random(240) > 0.5,
        }
    ).astype(object)
    for place, name in enumerate(NAMES):
        if name != "count":
            frame.loc[frame.index % 11 == place, name] = None
    return frame.assign(size=frame["size"].astype(float), count=frame["count"].astype(int))


@pytest.fixture(scope="module", params=[False, True], ids=["no-empty-category", "empty-category"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Fit, export and serve; one model knows the category "", the other does not."""
    frame = training_frame(knows_empty=request.param)
    estimator = BatchNormMLPClassifier(
        widths=(16,), ensemble=1, encoding="plain", epochs=8, threads=1, device="cpu", categorical=("grade", "owned")
    ).fit(frame, (frame["size"].fillna(0) + (frame["colour"] == "red") > 0.3).to_numpy())
    models = tmp_path_factory.mktemp("models")
    folder = estimator.export(models, "colours")
    categories = next(one.categories for one in estimator.model_.data.signature.inputs if one.name == "colour")
    assert ("" in (categories or ())) is request.param
    port = free_port()
    with live(models, "--grpc-port", str(port)) as server:
        yield House(server, f"127.0.0.1:{port}", "colours", estimator, load_model(folder))


def of_predictions(predictions: list[dict[str, Any]]) -> np.ndarray:
    return np.array([prediction["probabilities"]["true"] for prediction in predictions], np.float32)


def native(house: House, rows: Rows) -> np.ndarray:
    body = json.dumps({"rows": [[row[name] for name in NAMES] for row in rows]}).encode()
    return of_predictions(house.post("/predict", body).json()["predictions"])


def native_named(house: House, rows: Rows) -> np.ndarray:
    return of_predictions(house.post("/predict", json.dumps({"rows": list(rows)}).encode()).json()["predictions"])


def invocations(form: str) -> Door:
    def through(house: House, rows: Rows) -> np.ndarray:
        split = {"columns": NAMES[::-1], "data": [[row[name] for name in NAMES[::-1]] for row in rows]}
        content = {form: split if form == "dataframe_split" else list(rows)}
        return of_predictions(house.post("/invocations", json.dumps(content).encode()).json()["predictions"])

    return through


def datatype(name: str, values: list[Any]) -> str:
    """Return the tensor datatype that holds a feature's values, the text one where they are texts."""
    if name in ("colour", "day") or any(isinstance(value, str) for value in values):
        return "BYTES" if all(isinstance(value, str | None) for value in values) else "FP64"
    if any(isinstance(value, bool) for value in values):
        return "BOOL" if all(isinstance(value, bool | None) for value in values) else "FP64"
    return "FP64"


def oip_json(house: House, rows: Rows) -> np.ndarray:
    inputs = []
    for name in NAMES:
        values = [row[name] for row in rows]
        kind = datatype(name, values)
        is_bit = kind == "FP64" and name in ("adult", "owned")  # a tensor of numbers holds true and false as 1 and 0
        data = [float(value) if is_bit and isinstance(value, bool) else value for value in values]
        inputs.append({"name": name, "datatype": kind, "shape": [len(rows)], "data": data})
    body = json.dumps({"inputs": inputs}).encode()
    outputs = house.post(f"/v2/models/{house.name}/infer", body).json()["outputs"]
    return np.array(outputs[1]["data"], np.float32).reshape(-1, 2)[:, 1]


MISSING_TEXT = "\0"


def tensors(triton: Any, rows: Rows) -> list[Any]:
    """Return binary tensors: texts with a text of their own for a missing value, numbers with NaN."""
    made = []
    for name in NAMES:
        values = [row[name] for row in rows]
        kind = datatype(name, values)
        if kind == "BYTES":
            array = np.array([[MISSING_TEXT if value is None else value] for value in values], np.object_)
        else:
            kind = "FP64"
            if any(isinstance(value, str) for value in values):
                raise Refused("no tensor of numbers holds a text")
            array = np.array([[np.nan if value is None else float(value)] for value in values])
        tensor = triton.InferInput(name, [len(rows), 1], kind)
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def triton(module: Any, address: Callable[[House], str]) -> Door:
    def through(house: House, rows: Rows) -> Any:
        if any(isinstance(row["size"], bool) for row in rows):
            return None  # a tensor of numbers has no booleans
        with module.InferenceServerClient(address(house)) as client:
            try:
                answer = client.infer(house.name, tensors(module, rows), parameters={"missing_text": MISSING_TEXT})
            except InferenceServerException as error:
                raise Refused(str(error)) from error
        return answer.as_numpy("probabilities")[:, 1]

    return through


def cell(name: str, value: Any, *, knows_empty: bool) -> str | None:
    """Return how a text table spells a value; None where it has no spelling."""
    if value is None:
        return "n/a" if name == "colour" and knows_empty else ""
    if isinstance(value, str) and value in NO_CSV:
        return value if name == "colour" and value in (("NA", "") if knows_empty else ("NA",)) else None
    if isinstance(value, str) and name not in ("colour", "day"):
        return None  # every cell is a text
    if name == "colour" and not isinstance(value, str):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def text_table(house: House, rows: Rows) -> bytes | None:
    knows_empty = "" in (house.estimator.model_.data.signature.inputs[2].categories or ())
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(NAMES)
    for row in rows:
        cells = [cell(name, row[name], knows_empty=knows_empty) for name in NAMES]
        if None in cells:
            return None
        writer.writerow(cells)
    return text.getvalue().encode()


def csv_door(path: str) -> Door:
    def through(house: House, rows: Rows) -> Any:
        body = text_table(house, rows)
        if body is None:
            return None
        answer = house.post(path, body, "text/csv")
        if path == "/invocations":
            return of_predictions(answer.json()["predictions"])
        return pd.read_csv(io.BytesIO(answer.content))["probability_true"].to_numpy(np.float32)

    return through


def lines(house: House, rows: Rows) -> np.ndarray:
    answer = house.post("/predict?answer=alone", "\n".join(map(json.dumps, rows)).encode(), "application/jsonlines")
    return np.array([json.loads(line)["probabilities"]["true"] for line in answer.text.splitlines()], np.float32)


def arrow_table(rows: Rows) -> pa.Table | None:
    """Return typed columns; None where the values of one column have no common type."""
    columns = {}
    for name in NAMES:
        values = [row[name] for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {bool, int} and set(values) <= {0, 1, None}:
            values = [value if value is None else bool(value) for value in values]
        elif kinds == {int, float}:
            values = [value if value is None else float(value) for value in values]
        elif len(kinds) > 1:
            return None
        columns[name] = pa.array(values)
    return pa.table(columns)


def typed(write: Callable[[pa.Table], bytes], kind: str) -> Door:
    def through(house: House, rows: Rows) -> Any:
        table = arrow_table(rows)
        if table is None:
            return None
        answer = house.post("/predict", write(table), kind).content
        found = ipc.open_stream(answer).read_all() if "stream" in kind else parquet.read_table(io.BytesIO(answer))
        return found["probability_true"].to_numpy()

    return through


def as_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


def client_rows(house: House, rows: Rows) -> np.ndarray:
    with Client(house.server.url, house.name) as client:
        return of_predictions(_asked(lambda: client.predict(list(rows))))


def client_frame(make: Callable[[Rows], Any]) -> Door:
    def through(house: House, rows: Rows) -> Any:
        frame = make(rows)
        if frame is None:
            return None
        with Client(house.server.url, house.name) as client:
            return np.asarray(_asked(lambda: client.predict(frame))["probability_true"], np.float32)

    return through


def local_frame(house: House, rows: Rows) -> np.ndarray:
    answer = _asked(lambda: house.local.predict(objects(rows)))
    return np.asarray(answer["probability_true"], np.float32)


def estimated(house: House, rows: Rows) -> np.ndarray:
    try:
        return house.estimator.predict_proba(objects(rows))[:, 1]
    except ValueError as error:
        raise Refused(str(error)) from error


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except RefusedError as error:
        raise Refused(f"{error.status} {error.message}") from error


def objects(rows: Rows) -> pd.DataFrame:
    """Return a pandas frame of Python objects."""
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in NAMES})


def inferred(rows: Rows) -> pd.DataFrame:
    """Return a pandas frame whose types pandas infers, None and NaN as it likes."""
    return pd.DataFrame(list(rows))


def arrow_backed(rows: Rows) -> Any:
    table = arrow_table(rows)
    return table and table.to_pandas(types_mapper=pd.ArrowDtype)


def polars_frame(rows: Rows) -> Any:
    table = arrow_table(rows)
    return table and pl.from_arrow(table)


DOORS: dict[str, Door] = {
    "native, lists": native,
    "native, named": native_named,
    "/invocations, instances": invocations("instances"),
    "/invocations, split": invocations("dataframe_split"),
    "/invocations, records": invocations("dataframe_records"),
    "/invocations, CSV": csv_door("/invocations"),
    "OIP, JSON": oip_json,
    "OIP, binary": triton(triton_http, lambda house: f"{house.server.host}:{house.server.port}"),
    "OIP, gRPC": triton(triton_grpc, lambda house: house.grpc_address),
    "table, CSV": csv_door("/predict"),
    "table, JSON Lines": lines,
    "table, Arrow": typed(as_stream, "application/vnd.apache.arrow.stream"),
    "table, Parquet": typed(as_parquet, "application/vnd.apache.parquet"),
    "client, rows": client_rows,
    "client, pandas objects": client_frame(objects),
    "client, pandas inferred": client_frame(inferred),
    "client, pandas on Arrow": client_frame(arrow_backed),
    "client, polars": client_frame(polars_frame),
    "load_model, frame": local_frame,
    "estimator": estimated,
}


@pytest.fixture(scope="module")
def wanted(house: House) -> dict[int, np.ndarray]:
    """Return what the native route answers for each row alone, by the row's place in ROWS."""
    return {place: native(house, [row]) for place, row in enumerate(ROWS)}


@pytest.mark.parametrize("door", DOORS)
def test_a_row_means_the_same_through_every_door(house: House, wanted: dict[int, np.ndarray], door: str) -> None:
    """Each kind of value alone, and among any number of rows of other kinds, has the bits of the native route."""
    sayable = []
    for place, row in enumerate(ROWS):
        answer = DOORS[door](house, [row])
        if answer is not None:
            assert answer.tobytes() == wanted[place].tobytes(), (door, ACCEPTED[place])
            sayable.append(place)
    assert len(sayable) >= 0.8 * len(ROWS)
    for size in SIZES:
        places = [sayable[number % len(sayable)] for number in range(size)]
        answer = DOORS[door](house, [ROWS[place] for place in places])
        if answer is None:  # the values of a column have no common type
            assert door in ("table, Arrow", "table, Parquet", "client, pandas on Arrow", "client, polars")
            continue
        assert answer.tobytes() == np.concatenate([wanted[place] for place in places]).tobytes(), (door, size)


@pytest.mark.parametrize("door", DOORS)
def test_what_one_door_refuses_all_refuse(house: House, door: str) -> None:
    """A value that the native route refuses is refused through every door, alone and beside good rows."""
    said = 0
    for name, value in REFUSED:
        for rows in ([{**GOOD, name: value}], [GOOD, {**GOOD, name: value}], [*[GOOD] * 40, {**GOOD, name: value}]):
            try:
                answer = DOORS[door](house, rows)
            except Refused:
                said += 1
                continue
            assert answer is None, (door, name, value, len(rows))
    assert said >= 9


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, pd.NaT, np.datetime64("NaT", "us"), Decimal("NaN")], ids=repr)
@pytest.mark.parametrize("name", ["size", "colour", "day", "adult", "grade", "owned"])
def test_every_missing_value_of_python_is_missing(house: House, name: str, value: Any) -> None:
    """None, NaN, NaT, pandas.NA and a Decimal NaN are the missing value, in rows and frames, here and over HTTP."""
    missing = native(house, [{**GOOD, name: None}])
    rows = [{**GOOD, name: value}] * 40
    for door in ("client, rows", "client, pandas objects", "load_model, frame", "estimator"):
        for many in (rows[:1], rows):
            assert DOORS[door](house, many).tobytes() == missing.tobytes() * len(many), door


@pytest.mark.parametrize("reads_infinite", [False, True])
def test_an_infinite_number_means_the_same_everywhere(tmp_path: Path, *, reads_infinite: bool) -> None:
    """It is missing through every door where the training rows had it for a missing value, and refused elsewhere."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame({"a": random.normal(size=120), "b": random.choice(["x", "y"], 120)})
    frame.loc[::17, "a"] = np.inf if reads_infinite else np.nan
    settings: dict[str, Any] = {"widths": (8,), "epochs": 2, "ensemble": 1, "encoding": "plain", "device": "cpu"}
    estimator = BatchNormMLPClassifier(**settings).fit(frame, (frame["b"] == "x").to_numpy())
    local = load_model(estimator.export(tmp_path, "model"))
    wanted = estimator.predict_proba(pd.DataFrame({"a": [None], "b": ["x"]}, dtype=object))[:, 1].tobytes()
    row = {"a": np.inf, "b": "x"}
    with live(tmp_path) as server, Client(server.url, "model") as client:
        doors: dict[str, Callable[[int], Any]] = {
            "rows": lambda rows: of_predictions(client.predict([row] * rows)),
            "lists": lambda rows: of_predictions(client.predict([list(row.values())] * rows)),
            "pandas": lambda rows: client.predict(pd.DataFrame([row] * rows))["probability_true"],
            "polars": lambda rows: client.predict(pl.DataFrame([row] * rows))["probability_true"],
            "local rows": lambda rows: of_predictions(local.predict([row] * rows)),
            "local frame": lambda rows: local.predict(pd.DataFrame([row] * rows))["probability_true"],
            "estimator": lambda rows: estimator.predict_proba(pd.DataFrame([row] * rows))[:, 1],
        }
        for name, door in doors.items():
            for rows in (1, 33):
                if reads_infinite:
                    assert np.asarray(door(rows), np.float32).tobytes() == wanted * rows, name
                else:
                    with pytest.raises(
                        (RefusedError, ValueError), match="row 0, feature 'a': expected a finite number"
                    ):
                        door(rows)
        with pytest.raises(RefusedError, match="feature 'b': expected a finite number"):
            client.predict({"a": 1.0, "b": np.inf})
