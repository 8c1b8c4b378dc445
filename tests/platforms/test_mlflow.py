"""MLflow's scoring server: data frames, CSV as pandas writes it, /ping, /health and /version, 400 and 415."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchproof import __version__
from tests.bundles import INPUTS, make_bundle, random_rows, signature_of
from tests.http_client import ask
from tests.live import Live, live

NAMES = [feature["name"] for feature in INPUTS]
FRAME = pd.DataFrame(random_rows(signature_of(), 6, seed=3), columns=NAMES, dtype=object)
RECORDS = FRAME.where(FRAME.notna(), None).to_dict("records")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve a model of every kind of feature."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    with live(models) as found:
        yield found


@pytest.fixture(scope="module")
def wanted(server: Live) -> Any:
    """Return what the records are answered with."""
    return ask(server, "POST", "/invocations", {"dataframe_records": RECORDS}).content


def test_data_frames(server: Live, wanted: Any) -> None:
    """Both orientations of a data frame, and inputs by column, are the same rows."""
    split = FRAME.where(FRAME.notna(), None).to_dict("split")
    assert ask(server, "POST", "/invocations", {"dataframe_split": split}).content == wanted
    by_column = {name: [row[name] for row in RECORDS] for name in NAMES}
    assert ask(server, "POST", "/invocations", {"inputs": by_column, "params": {}}).content == wanted
    assert len(wanted["predictions"]) == len(FRAME)


def test_csv_as_pandas_writes_it(server: Live, wanted: Any) -> None:
    """`DataFrame.to_csv(index=False)` is read with its header line."""
    text = FRAME.to_csv(index=False).encode()
    assert ask(server, "POST", "/invocations", text, Content_Type="text/csv; charset=utf-8").content == wanted


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_health(server: Live, path: str) -> None:
    """Health is 200 with an empty line."""
    answer = ask(server, "GET", path)
    assert (answer.status, answer.body) == (200, b"\n")


def test_version(server: Live) -> None:
    """The version is text."""
    answer = ask(server, "GET", "/version")
    assert (answer.status, answer.body.decode()) == (200, __version__)


@pytest.mark.parametrize(
    "body, kind, status",
    [
        ([1], "application/json", 400),
        ({"dataframe_split": {}, "instances": []}, "application/json", 400),
        ({"columns": NAMES, "data": []}, "application/json", 400),
        ({"instances": np.zeros((1, 2)).tolist()}, "application/json", 400),
        ("{}", "application/json; charset=latin-1", 415),
        ("<x/>", "application/xml", 415),
    ],
)
def test_refusals(server: Live, body: Any, kind: str, status: int) -> None:
    """A refusal has the code and the sentence that MLflow's clients look for."""
    answer = ask(server, "POST", "/invocations", body, Content_Type=kind)
    assert (answer.status, answer.content["error_code"]) == (status, "BAD_REQUEST")
    assert answer.content["message"]
