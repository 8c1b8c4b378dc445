"""One table through every door: what trains is read to the same arrays, bit for bit, by files, protocols, clients and the estimator.

Tables are drawn at random: kinds of columns, spellings, missing values, flags of training, separators, line ends. A model
with the signature of training is served in this process, and what its runs are given is compared with what training made
of the same rows. Cells go as they are to doors that take text tables, and as the values that they mean to the others;
texts that a rule reads go as texts too.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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
from hypothesis import HealthCheck, given
from hypothesis import settings as hypotheses
from hypothesis import strategies as st
from pyarrow import feather, ipc, parquet

from batchproof.local_model import load_model
from batchproof.service.__main__ import main
from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.client import Client
from batchproof.service.configuration.settings import Settings as ServiceSettings
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.texts.text_cells import reader_of
from batchproof.service.inference.runner import Runner
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.estimators import dataframe
from batchproof.training.estimators.estimator import BatchNormMLPRegressor
from batchproof.training.settings import Settings
from tests.bundles import make_bundle, reseal
from tests.inside import serving
from tests.live import free_port

pytestmark = pytest.mark.slow

ROWS = 40
MISSING_TEXT = "\0"
Row = list[Any]


@dataclass(frozen=True)
class Spelling:
    """Cells that a column may hold, and the flag of training that it needs."""

    cells: tuple[str, ...]
    flag: str = ""
    value: str = ""  # of the flag, {} for the column's name


MISSING = ("", "NA", "n/a", "NULL", "?")
SPELLINGS = {
    "numbers": Spelling(("1", "2.5", "-3", "1e3", ".5", "5.", "+4", " 7 ", "-0.0", "0.1", "1e-300", "nan", *MISSING)),
    "whole numbers": Spelling(("1", "2", "0x1A", "007", "9007199254740993", "-40", "")),
    "infinite": Spelling(("inf", "-Infinity", "1e999", "2.5", "3", "4.25")),
    "words": Spelling(("1", "2.5", "3", "unknown", "-", "n.a.", ".")),
    "marks": Spelling(("1", "2.5", "-999", "-999.0", "7", ""), "missing", "{}=-999"),
    "booleans": Spelling(("true", "FALSE", "True", "1", "0", "")),
    "money": Spelling(("$1,200.50", "$75.11", "-$3", "$0.5", "unknown", "")),
    "percent": Spelling(("63.7%", "12 %", "-1.5%", "0%", "NA")),
    "areas": Spelling(("11,275.5 sqft", "950 sqft", "1,000 sqft", "")),
    "decimal commas": Spelling(("3,14", "2,5", "7", "-0,1", "")),
    "both separators": Spelling(("1.234,5", "12,25", "7", "1.000.000,1")),
    "grouped by blanks": Spelling(("1 234,5", "7", "1\u00a0234", "0,25")),
    "dates": Spelling(("2020-01-31", "2024-02-29T12:30:00Z", "1960-05-05 01:02:03.25+01:00", " 2021-01-01", "", "?")),
    "year first": Spelling(("2012/01/31", "2013/12/01", "2014/06/30", "0000-00-00")),
    "month first": Spelling(("12/31/20", "01/02/21", "02/28/21", "")),
    "month names": Spelling(("Jan 1 2000", "December 31 1999", "may 5 2020", "NA")),
    "months": Spelling(("Mar-2018", "Dec-2019", "Jan-2020")),
    "in UTC": Spelling(("2020-07-27 17:27:43 UTC", "2020-07-28 01:02:03 GMT", "unknown")),
    "day first": Spelling(("01/02/2020", "03/04/2020", "2020-05-06", ""), "date_format", "{}=%d/%m/%Y"),
    "categories": Spelling(
        ("red", " red", "blue ", "a,b", 'say "x"', "é", "x;y|z", "1x", "None", "", "a\tb", "two words")
    ),
    "lines": Spelling(("a\nb", "c\rd", "e\r\nf", "g", "")),
    "texts": Spelling(("007", "1.50", "NA", "None", "2020-01-01", ""), "text", "{}"),
    "codes": Spelling(("1", "7", "12", ""), "categorical", "{}"),
    "wide codes": Spelling(("1", "7", "99999999999999999999", "NA"), "categorical", "{}"),
    "boolean codes": Spelling(("true", "false", ""), "categorical", "{}"),
}


@dataclass(frozen=True)
class Table:
    """A drawn table with the flags that it is trained with."""

    columns: dict[str, list[str]]  # of the features, [ROWS] cells each
    flags: dict[str, tuple[str, ...]]
    strip: bool
    delimiter: str
    line_end: str
    quotes_all: bool
    has_mark: bool

    def text(self) -> bytes:
        """Return the training file: the features, a row number that training leaves out, and the target amid them."""
        names = [*self.columns, "id"]
        names.insert(1, "y")
        columns = {**self.columns, "id": range(ROWS), "y": [row % 7 + row / 100 for row in range(ROWS)]}
        rows = [names, *([columns[name][row] for name in names] for row in range(ROWS))]
        return self.written(rows, mark="\ufeff" if self.has_mark else "")

    def written(self, rows: Sequence[Sequence[Any]], mark: str = "") -> bytes:
        """Return rows as text, in the table's own way."""
        has_line_ends = any("\r" in cell or "\n" in cell for column in self.columns.values() for cell in column)
        quoting = csv.QUOTE_ALL if self.quotes_all or has_line_ends else csv.QUOTE_MINIMAL
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.delimiter, lineterminator=self.line_end, quoting=quoting).writerows(rows)
        return (mark + text.getvalue()).encode()


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Draw a table of one to five columns, each of a few distinct cells, beside a plain one."""
    columns: dict[str, list[str]] = {"x": [str(row * 0.5) for row in range(ROWS)]}
    flags: dict[str, tuple[str, ...]] = {}
    for place, kind in enumerate(draw(st.lists(st.sampled_from(sorted(SPELLINGS)), min_size=1, max_size=5))):
        spelling, name = SPELLINGS[kind], f"c{place}"
        cells = draw(st.lists(st.sampled_from(spelling.cells), min_size=2, max_size=5, unique=True))
        columns[name] = [
            cells[number] for number in draw(st.lists(st.integers(0, len(cells) - 1), min_size=ROWS, max_size=ROWS))
        ]
        if spelling.flag:
            flags[spelling.flag] = (*flags.get(spelling.flag, ()), spelling.value.format(name))
    return Table(
        columns,
        flags,
        strip=draw(st.booleans()),
        delimiter=draw(st.sampled_from(",;\t|")),
        line_end=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        quotes_all=draw(st.booleans()),
        has_mark=draw(st.booleans()),
    )


@dataclass(frozen=True)
class House:
    """A model of the table's signature at every door."""

    table: Table
    path: Path  # of the training file
    signature: Signature
    folder: Path  # of the bundle
    url: str
    grpc_address: str

    @property
    def names(self) -> list[str]:
        """Return the features' names in order."""
        return [feature.name for feature in self.signature.inputs]

    def values(self, *, as_texts: bool = False) -> list[Row]:
        """Return each row's JSON values, or the cells themselves where a rule reads them as numbers or dates."""
        columns = [
            _values(feature, self.table.columns[feature.name], as_texts=as_texts) for feature in self.signature.inputs
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def named(self, *, as_texts: bool = False) -> list[dict[str, Any]]:
        """Return each row as an object."""
        return [dict(zip(self.names, row, strict=True)) for row in self.values(as_texts=as_texts)]

    def post(self, path: str, content: bytes, kind: str = "application/json") -> httpx.Response:
        """Send a body that is answered."""
        response = httpx.post(self.url + path, content=content, headers={"content-type": kind}, timeout=60)
        assert response.status_code == 200, response.text
        return response


def _values(feature: Feature, cells: Sequence[str], *, as_texts: bool) -> list[Any]:
    take = reader_of(feature)
    values = list(cells) if as_texts and is_read_by_rule(feature) else [take(cell) for cell in cells]
    return [repr(value) if isinstance(value, float) and math.isinf(value) else value for value in values]


def is_read_by_rule(feature: Feature) -> bool:
    """Return whether a rule makes numbers or dates of the feature's texts."""
    return feature.text_rule is not None and feature.kind != "categorical"


def typed(feature: Feature, values: Sequence[Any]) -> pa.Array:
    """Return a column of Arrow with the type that a typed table would have."""
    if feature.kind == "numeric":
        numbers = [float(value) if isinstance(value, str) else value for value in values]
        return pa.array(numbers, pa.bool_() if feature.value_type == "boolean" else pa.float64())
    return pa.array(values)


def arrow(house: House, *, as_texts: bool = False) -> pa.Table:
    """Return the rows as typed columns, or as texts where a rule reads them."""
    columns = zip(*house.values(as_texts=as_texts), strict=True)
    made = {}
    for feature, values in zip(house.signature.inputs, columns, strict=True):
        is_text = as_texts and is_read_by_rule(feature)
        made[feature.name] = pa.array(values, pa.string()) if is_text else typed(feature, values)
    return pa.table(made)


def native(house: House, *, as_texts: bool = False) -> None:
    house.post("/predict", json.dumps({"rows": house.values(as_texts=as_texts)}).encode())


def native_named(house: House) -> None:
    rows = [{"y": row, **values, "id": row} for row, values in enumerate(house.named())]
    house.post("/predict", json.dumps({"rows": rows}).encode())


def one_by_one(house: House) -> None:
    with httpx.Client(base_url=house.url, timeout=60) as client:
        for row in house.values():
            assert client.post("/predict", json={"rows": [row]}).status_code == 200


def json_lines(house: House) -> None:
    body = "\n".join(map(json.dumps, house.named())).encode()
    house.post("/predict?answer=alone", body, "application/jsonlines")
    house.post("/invocations", body, "application/jsonlines")


def instances(house: House) -> None:
    split_rows = [row[::-1] for row in house.values(as_texts=True)]
    content = {"dataframe_split": {"columns": house.names[::-1], "data": split_rows}}
    house.post("/invocations", json.dumps(content).encode())


def training_file(path: str) -> Callable[[House], None]:
    return lambda house: house.post(path, house.path.read_bytes(), "text/csv") and None


def without_header(house: House) -> None:
    rows = zip(*(house.table.columns[name] for name in house.names), strict=True)
    house.post("/invocations", house.table.written(list(rows)), "text/csv")


def oip_json(house: House) -> None:
    inputs = []
    for feature, values in zip(house.signature.inputs, zip(*house.values(), strict=True), strict=True):
        is_text = feature.value_type in ("string", "date")
        # True and false are 1 and 0 in a tensor of numbers, and an infinite number is the token Infinity.
        data = list(values) if is_text else [None if value is None else float(value) for value in values]
        kind = "BYTES" if is_text else "FP64"
        inputs.append({"name": feature.name, "datatype": kind, "shape": [ROWS], "data": data})
    house.post(f"/v2/models/{house.folder.parent.name}/infer", json.dumps({"inputs": inputs}).encode())


def triton(module: Any, address: Callable[[House], str]) -> Callable[[House], None]:
    def through(house: House) -> None:
        tensors = []
        for feature, values in zip(house.signature.inputs, zip(*house.values(), strict=True), strict=True):
            if feature.value_type in ("string", "date"):
                array = np.array([[MISSING_TEXT if value is None else value] for value in values], np.object_)
                kind = "BYTES"
            else:
                array = np.array([[np.nan if value is None else float(value)] for value in values])
                kind = "FP64"
            tensor = module.InferInput(feature.name, [ROWS, 1], kind)
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        with module.InferenceServerClient(address(house)) as client:
            client.infer(house.folder.parent.name, tensors, parameters={"missing_text": MISSING_TEXT})

    return through


def streamed(house: House) -> None:
    for as_texts in (False, True):
        sink = io.BytesIO()
        table = arrow(house, as_texts=as_texts)
        with ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, 7)
        house.post("/predict", sink.getvalue(), "application/vnd.apache.arrow.stream")


def predicted(write: Callable[[House, Path], object], ending: str) -> Callable[[House], None]:
    def through(house: House) -> None:
        source = house.path.with_suffix(ending)
        write(house, source)
        assert (
            main(
                ["predict", str(house.folder), str(source), str(house.path.with_suffix(".answers.csv")), "--overwrite"]
            )
            == 0
        )

    return through


def write_parquet(house: House, path: Path) -> None:
    parquet.write_table(arrow(house), path, row_group_size=13)


def write_feather(house: House, path: Path) -> None:
    feather.write_feather(arrow(house, as_texts=True), path)


def write_packed(house: House, path: Path) -> None:
    path.write_bytes(gzip.compress(house.path.read_bytes()))


def write_lines(house: House, path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, house.named(as_texts=True))), encoding="utf-8")


def client_rows(house: House) -> None:
    with Client(house.url, house.folder.parent.name) as client:
        client.predict([_infinite(row) for row in house.named()])


def client_frames(house: House) -> None:
    frames = [pl.from_arrow(arrow(house)), arrow(house).to_pandas(types_mapper=pd.ArrowDtype), objects(house)]
    with Client(house.url, house.folder.parent.name) as client:
        for frame in frames:
            client.predict(frame)


def in_process(house: House) -> None:
    model = load_model(house.folder)
    for rows in (arrow(house), objects(house), house.named(as_texts=True)):
        model.predict(rows)


def objects(house: House) -> pd.DataFrame:
    """Return a pandas frame of Python objects."""
    rows = [_infinite(row) for row in house.named()]
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in house.names})


def _infinite(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with infinite floats, which Python has, instead of their texts."""
    return {name: float(value) if value in ("inf", "-inf") else value for name, value in row.items()}


DOORS: dict[str, tuple[Callable[[House], object], int]] = {  # and how many times it sends the rows
    "native": (native, 1),
    "native, texts": (partial(native, as_texts=True), 1),
    "native, named, with the target": (native_named, 1),
    "native, row by row": (one_by_one, 1),
    "JSON Lines": (json_lines, 2),
    "/invocations, split, texts": (instances, 1),
    "/invocations, CSV": (training_file("/invocations"), 1),
    "/invocations, CSV without header": (without_header, 1),
    "/predict, CSV": (training_file("/predict"), 1),
    "/predict, Arrow": (streamed, 2),
    "OIP, JSON": (oip_json, 1),
    "OIP, binary": (triton(triton_http, lambda house: house.url.removeprefix("http://")), 1),
    "OIP, gRPC": (triton(triton_grpc, lambda house: house.grpc_address), 1),
    "predict, CSV": (predicted(lambda *_: None, ".csv"), 1),
    "predict, gzip": (predicted(write_packed, ".csv.gz"), 1),
    "predict, JSON Lines": (predicted(write_lines, ".jsonl"), 1),
    "predict, Parquet": (predicted(write_parquet, ".parquet"), 1),
    "predict, Feather": (predicted(write_feather, ".feather"), 1),
    "client, rows": (client_rows, 1),
    "client, frames": (client_frames, 3),
    "load_model": (in_process, 3),
}
RECORDED: list[Any] = []  # what runs were given, in order


@pytest.fixture(scope="module", autouse=True)
def recording() -> Iterator[None]:
    """Record the requests of every run in this process."""
    run = Runner.run

    def recorded(self: Runner, requests: Sequence[Any]) -> Any:
        RECORDED.extend(requests)
        return run(self, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "run", recorded)
        yield


def trained_arrays(data: Dataset) -> Arrays:
    """Return what training made of all rows, in the order of the file."""
    order = np.argsort(np.concatenate([getattr(data.split, part) for part in data.split._fields]))
    parts = [data.arrays[part] for part in data.split._fields]
    joined = [None if kind[0] is None else np.concatenate(kind)[order] for kind in zip(*parts, strict=True)]  # type: ignore[arg-type]
    return Arrays(*joined)


def check_door(door: str, house: House, wanted: Arrays) -> None:
    """Ask, and hold what ran last to the arrays of training: each time that all rows were sent, the very bits."""
    ask, times = DOORS[door]
    RECORDED.clear()
    ask(house)
    for kind, right in enumerate(wanted):
        found = [request[kind] for request in RECORDED]
        if right is None:
            assert not any(array is not None for array in found), door
            continue
        sent = np.concatenate(found)[-times * ROWS :]  # before them, a bundle that was loaded ran its golden rows
        assert same_bits(sent, np.concatenate([right] * times)), door


def same_bits(found: np.ndarray, right: np.ndarray) -> bool:
    """Return whether arrays have the same bits; a NaN is a missing value whatever its bits."""
    if found.shape != right.shape or found.dtype != right.dtype:
        return False
    return bool(((found.view(np.int64) == right.view(np.int64)) | (np.isnan(found) & np.isnan(right))).all())


def _with_spread(feature: dict[str, Any]) -> dict[str, Any]:
    """Return a feature whose range the test's graph can divide by."""
    low, high = feature.get("range") or (0.0, 1.0)
    return feature | ({"range": [low, low + 1.0]} if feature.get("range") and low == high else {})


@contextmanager
def housed(table: Table, folder: Path) -> Iterator[tuple[House, Arrays]]:
    """Train on the table as far as its arrays, and serve a model of its signature; raises TableError."""
    path = folder / "t.csv"
    path.write_bytes(table.text())
    data = prepare(path, Settings(target="y", rare_rows=1, strip=table.strip, **table.flags))
    signature = data.signature
    inputs = [_with_spread(feature.model_dump()) for feature in signature.inputs]
    bundle = make_bundle(folder / "models", "drawn", inputs=inputs)
    reseal(bundle, lambda content: content["signature"].update(target="y", ignored=list(signature.ignored)))
    port = free_port()
    with serving(ServiceSettings(models=folder / "models", grpc_port=port, audit_every=0)) as server:
        yield (
            House(table, path, signature, bundle, f"http://127.0.0.1:{server.port}", f"127.0.0.1:{port}"),
            trained_arrays(data),
        )


@hypotheses(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_a_table_means_the_same_through_every_door(tmp_path_factory: pytest.TempPathFactory, table: Table) -> None:
    """Training, files, every protocol, the clients and this process read a drawn table to the same arrays."""
    try:
        with housed(table, tmp_path_factory.mktemp("t")) as (house, wanted):
            for door in DOORS:
                check_door(door, house, wanted)
    except TableError as refused:
        assert "column" in str(refused)  # noqa: PT017 - a column without two values may be refused, by its name


@hypotheses(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_an_estimator_reads_what_it_exports(tmp_path_factory: pytest.TempPathFactory, table: Table) -> None:
    """A frame's rows are the same arrays in the fit, in the estimator's predictions, and for the bundle that it exports."""
    folder = tmp_path_factory.mktemp("t")
    path = folder / "t.csv"
    path.write_bytes(table.text())
    estimator = BatchNormMLPRegressor(
        widths=(4,), ensemble=1, encoding="plain", epochs=1, threads=1, device="cpu", rare_rows=1
    )
    try:
        signature = prepare(path, Settings(target="y", rare_rows=1, strip=table.strip, **table.flags)).signature
        frame = arrow(House(table, path, signature, folder, "", ""), as_texts=True)
        estimator.fit(frame, np.arange(ROWS) % 7 + np.arange(ROWS) / 100)
    except TableError as refused:  # such as numbers with commas, which a typed table holds by mistake
        assert "column" in str(refused)  # noqa: PT017
        return
    wanted = trained_arrays(estimator.model_.data)
    local = load_model(estimator.export(folder / "models", "fitted"))
    values = dict(zip(frame.column_names, frame.to_pydict().values(), strict=True))
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    for given_rows in (frame, frame.to_pandas(types_mapper=pd.ArrowDtype), pl.from_arrow(frame)):
        for found, right in zip(dataframe.encode(estimator.model_.data.signature, given_rows), wanted, strict=True):
            assert (found is None) is (right is None)
            assert found is None or same_bits(found, right)
        RECORDED.clear()
        local.predict(given_rows)
        for kind, right in enumerate(wanted):
            assert right is None or same_bits(RECORDED[-1][kind], right)
    answers = np.array([row["value"] for row in local.predict(rows)], np.float32)
    assert answers.tobytes() == np.asarray(estimator.predict(frame), np.float32).tobytes()
