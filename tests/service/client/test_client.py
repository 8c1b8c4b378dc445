"""The Python client: rows and frames of both kinds, and when it asks again."""

import asyncio
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from batchproof.service.client import AsyncClient, Client, RefusedError, Retries
from batchproof.service.client.codecs import frame_codec
from batchproof.service.client.model import Address
from batchproof.service.client.options import Options
from batchproof.service.client.retries import AGAIN
from tests.bundles import INPUTS, NUMBERS, make_kinds, random_rows, signature_of
from tests.live import Live, live

NAMES = [feature["name"] for feature in INPUTS]
ROWS = random_rows(signature_of("multiclass", INPUTS), 40, seed=12)
OBJECTS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
QUICK = Retries(most=3, first_pause_s=0.001, longest_pause_s=0.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of every kind of feature, one of numbers, and a regression."""
    return make_kinds(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Live]:
    """Serve all of them."""
    with live(models) as found:
        yield found


def test_rows_lists_and_one_row(server: Live) -> None:
    """Objects, lists and one object alone get the predictions of the native route."""
    with Client(server.url, "flowers") as client:
        named, listed, alone = client.predict(OBJECTS), client.predict(ROWS), client.predict(OBJECTS[0])

    assert named == listed
    assert alone == named[0]
    assert set(alone) == {"label", "probabilities"}
    assert client.predict([]) == []


def test_more_rows_than_one_request_holds(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lists and frames go in several requests, and come back as one."""
    with Client(server.url, "flowers") as client:
        whole, frame = client.predict(OBJECTS), client.predict(pl.DataFrame(OBJECTS))
        monkeypatch.setattr("batchproof.service.client.options.ROWS_A_REQUEST", 7)
        assert client.predict(OBJECTS) == whole
        assert client.predict(pl.DataFrame(OBJECTS)).equals(frame)


@pytest.mark.usefixtures("protocol")
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_a_frame_comes_back_with_columns_more(server: Live, make: Callable[[Any], Any]) -> None:
    """A frame comes back as its kind, its own columns first, missing values among them, to the bits of rows."""
    frame = make([{**row, "note": place} for place, row in enumerate(OBJECTS)])
    with Client(server.url, "flowers", 1) as client:
        found, wanted = client.predict(frame), client.predict(OBJECTS)

    added = ["prediction", "probability_red", "probability_green", "probability_blue"]
    assert type(found) is type(frame)
    assert list(found.columns) == [*NAMES, "note", *added]
    assert list(found["prediction"]) == [one["label"] for one in wanted]
    reds = np.array([one["probabilities"]["red"] for one in wanted], np.float32)
    assert np.asarray(found["probability_red"]).tobytes() == reds.tobytes()


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_a_frame_of_numbers_and_a_regression(server: Live, make: Callable[[Any], Any]) -> None:
    """Numbers go as one matrix; a regression adds one column."""
    values = np.random.default_rng(1).uniform(-1, 1, (9, len(NUMBERS)))
    frame = make({feature["name"]: values[:, place] for place, feature in enumerate(NUMBERS)})
    with Client(server.url, "price") as client:
        found, wanted = client.predict(frame), client.predict(values.tolist())

    assert np.asarray(found["prediction"]).tolist() == [np.float32(one["value"]) for one in wanted]


@pytest.mark.usefixtures("protocol")
def test_dates_of_frames_are_instants(server: Live) -> None:
    """Datetimes of pandas with a time zone, of pandas without, and of polars mean what their text means."""
    texts = ["2020-02-29T12:30:00.25Z", None, "2001-01-01T00:00:00Z"]
    rows = [{**OBJECTS[0], "seen": text} for text in texts]
    aware = pd.DataFrame(rows).assign(
        seen=pd.to_datetime(pd.Series(texts), format="ISO8601").dt.tz_convert("Asia/Tokyo")
    )
    naive = aware.assign(seen=aware["seen"].dt.tz_convert("UTC").dt.tz_localize(None))
    with Client(server.url, "flowers") as client:
        wanted = client.predict(pl.DataFrame(rows))["probability_red"].to_list()
        for frame in (aware, naive, pl.from_pandas(naive)):
            assert list(client.predict(frame)["probability_red"]) == wanted


@pytest.fixture(params=[0, 1000], ids=["binary", "json"])
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Send frames of any length in one protocol; returns the number of rows from which the binary one is taken."""
    monkeypatch.setattr("batchproof.service.client.codecs.frame_codec.BINARY_ROWS", request.param)
    return int(request.param)


@pytest.mark.parametrize("name,inputs", [("flowers", INPUTS), ("numbers", NUMBERS), ("price", NUMBERS)])
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_both_protocols_give_the_same_frame(
    server: Live, monkeypatch: pytest.MonkeyPatch, make: Callable[[Any], Any], name: str, inputs: Any
) -> None:
    """Whichever protocol is taken, the answer has the same columns, types and bits; short frames take the native one."""
    rows = random_rows(signature_of("multiclass", inputs), frame_codec.BINARY_ROWS - 1, seed=3)
    names = [feature["name"] for feature in inputs]
    frame = make([dict(zip(names, row, strict=True)) for row in rows])
    with Client(server.url, name) as client:
        part = frame_codec.FramePart(frame, 0, client.model(), Options())
        assert part.tensors(Address(name)) is None
        short = client.predict(frame)
        monkeypatch.setattr("batchproof.service.client.codecs.frame_codec.BINARY_ROWS", len(rows))
        request = part.tensors(Address(name))
        assert request is not None
        assert request.path == f"/v2/models/{name}/infer"
        assert short.equals(client.predict(frame))


@pytest.mark.usefixtures("protocol")
def test_what_no_model_takes_is_refused_in_both(server: Live) -> None:
    """An infinite number, and a frame without a feature, are refusals of the service."""
    frame = pd.DataFrame(OBJECTS[:3])
    with Client(server.url, "flowers") as client:
        for wrong in (frame.assign(length_mm=np.inf), frame.drop(columns="count")):
            with pytest.raises(RefusedError):
                client.predict(wrong)


def test_a_pandas_index_stays(server: Live) -> None:
    """The answer has the frame's own index."""
    frame = pd.DataFrame(OBJECTS[:3], index=["c", "a", "b"])
    with Client(server.url, "flowers") as client:
        assert list(client.predict(frame).index) == ["c", "a", "b"]


def test_a_taken_column_is_refused(server: Live) -> None:
    """A frame that has a column prediction already is not overwritten."""
    with Client(server.url, "flowers") as client, pytest.raises(ValueError, match="'prediction' already"):
        client.predict(pd.DataFrame([{**OBJECTS[0], "prediction": 1}]))


def test_refusals_carry_the_services_words(server: Live) -> None:
    """A refusal has the status, code, sentence and details of the service, in both protocols; bad rows may stay."""
    bad = [OBJECTS[0], {**OBJECTS[1], "count": None}]
    with Client(server.url, "flowers") as client:
        with pytest.raises(RefusedError, match="row 1, feature 'count'") as refused:
            client.predict(bad)
        with pytest.raises(RefusedError, match="feature 'count'"):
            client.predict(pd.DataFrame(bad))
        kept = client.predict(bad, on_error="row")
    with Client(server.url, "flower") as client, pytest.raises(RefusedError, match="Did you mean 'flowers'"):
        client.predict(pl.DataFrame(OBJECTS))

    assert (refused.value.status, refused.value.code) == (422, "invalid_rows")
    assert refused.value.details[0]["feature"] == "count"
    assert ("label" in kept[0], "error" in kept[1]) == (True, True)


def test_a_bad_row_alone_may_stay_too(server: Live) -> None:
    """One row is asked as any number of them is."""
    bad = {**OBJECTS[0], "count": None}
    with Client(server.url, "flowers") as client:
        assert client.predict(bad, on_error="row")["error"]["code"] == "invalid_row"
        for word in ("stop", "request"):
            with pytest.raises(RefusedError, match="feature 'count'"):
                client.predict(bad, on_error=word)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_a_frame_is_answered_whole(server: Live, make: Callable[[Any], Any]) -> None:
    """A frame has no place for what is wrong with a row, so that asking for it is an error and not passed over."""
    with Client(server.url, "flowers") as client:
        with pytest.raises(ValueError, match="on_error='row' works only for rows, and a frame is answered as a whole"):
            client.predict(make(OBJECTS), on_error="row")
        assert len(client.predict(make(OBJECTS), on_error="stop")) == len(OBJECTS)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ("abc", "str"),
        (b"abc", "bytes"),
        (3, "int"),
        (None, "NoneType"),
        (np.zeros((2, 7)), "ndarray"),
        (iter([]), "list_"),
    ],
)
def test_what_is_no_rows_is_told_what_is(rows: Any, kind: str) -> None:
    """Before anything is sent, a text, a number or an array is refused with what is taken."""
    with pytest.raises(TypeError, match=rf"takes a row .* or a frame of pandas or polars, not {kind}"):
        Client("http://127.0.0.1:9", "flowers").predict(rows)
    with pytest.raises(TypeError, match=kind):
        asyncio.run(predicted(AsyncClient("http://127.0.0.1:9", "flowers"), rows))


@contextmanager
def scripted(*answers: tuple[int, str]) -> Iterator[tuple[str, list[int]]]:
    """Serve the answers (status, Retry-After) one after another, then a prediction; yields address and statuses."""
    waiting, given = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, retry_after = waiting.pop(0) if waiting else (200, "")
            given.append(status)
            body = json.dumps(
                {"predictions": [{"value": 1.0}]} if status == 200 else {"error": {"message": "no"}}
            ).encode()
            self.send_response(status)
            if retry_after:
                self.send_header("retry-after", retry_after)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", given
        finally:
            listening.shutdown()
            thread.join()


def ask(url: str, *, is_async: bool) -> Any:
    async def through() -> Any:
        async with AsyncClient(url, "price", retries=QUICK) as client:
            return await client.predict({"x": 1})

    if is_async:
        return asyncio.run(through())
    with Client(url, "price", retries=QUICK) as client:
        return client.predict({"x": 1})


@pytest.mark.parametrize("is_async", [False, True])
def test_it_asks_again_while_there_is_hope(*, is_async: bool) -> None:
    """429 and 503 are asked again, and what comes then is the answer."""
    with scripted((429, "0"), (503, ""), (429, "")) as (url, given):
        assert ask(url, is_async=is_async) == {"value": 1.0}
    assert given == [429, 503, 429, 200]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "answers,tries", [([(429, "")] * 9, 4), ([(503, "60")], 1), ([(422, "")], 1), ([(500, "")], 1)]
)
def test_it_gives_up(answers: list[tuple[int, str]], tries: int, *, is_async: bool) -> None:
    """After as many tries as allowed, for a Retry-After beyond the bound and for other refusals the refusal is raised."""
    with scripted(*answers) as (url, given), pytest.raises(RefusedError) as refused:
        ask(url, is_async=is_async)
    assert refused.value.status == answers[0][0]
    assert len(given) == tries


@pytest.mark.parametrize("is_async", [False, True])
def test_a_service_that_is_not_there(*, is_async: bool) -> None:
    """A service that cannot be reached is one clear error."""
    with pytest.raises(ConnectionError, match="the service does not answer"):
        ask("http://127.0.0.1:9", is_async=is_async)


@pytest.mark.parametrize("status", AGAIN)
def test_pauses(status: int) -> None:
    """Retry-After is what is waited; without it pauses double up to their bound; nothing is waited for nothing."""
    retries = Retries(most=8, first_pause_s=0.1, longest_pause_s=1.0)

    assert [retries.pause_s(tries, status, {}) for tries in (1, 2, 5, 9)] == [0.1, 0.2, 1.0, None]
    assert retries.pause_s(1, status, {"retry-after": "1"}) == 1.0
    assert retries.pause_s(1, status, {"retry-after": "2"}) is None
    assert retries.pause_s(1, 400, {}) is None


def test_the_page_says_how_long_the_defaults_try(root: Path) -> None:
    """The sum of the pauses before the client gives up is what docs/client.md says."""
    pauses = [Retries().pause_s(tries, None, {}) or 0.0 for tries in range(1, Retries().most + 1)]
    assert f"pauses of {sum(pauses):.1f} s in all" in (root / "docs" / "client.md").read_text(encoding="utf-8")


async def predicted(client: AsyncClient, rows: Any) -> Any:
    async with client:
        return await client.predict(rows)


def test_without_a_name_it_is_the_default_model(models: Path) -> None:
    """Rows and frames of both clients go to the model that the service answers /predict for."""
    with live(models, "--default-model", "flowers") as found, Client(found.url) as client:
        wanted = client.predict(OBJECTS)
        assert set(wanted[0]["probabilities"]) == {"red", "green", "blue"}
        assert client.model().name == "flowers"
        assert "probability_red" in client.predict(pl.DataFrame(OBJECTS)).columns
        assert asyncio.run(predicted(AsyncClient(found.url), OBJECTS)) == wanted
        with (
            Client(found.url, version=2) as later,
            pytest.raises(RefusedError, match="'flowers' is served only in version 1"),
        ):
            later.predict(OBJECTS)


def test_without_a_name_and_a_default_the_names_are_told(server: Live) -> None:
    """Where the service has no default model both clients refuse, with the names to choose from."""
    for rows in (OBJECTS, pl.DataFrame(OBJECTS)):
        with Client(server.url) as client, pytest.raises(RefusedError) as refused:
            client.predict(rows)
        with pytest.raises(RefusedError) as refused_too:
            asyncio.run(predicted(AsyncClient(server.url), rows))
        for one in (refused, refused_too):
            assert str(one.value) == "There is no default model; name one: flowers, numbers, price."
            assert one.value.code == "no_default_model"


def test_it_needs_nothing_of_the_server(root: Path) -> None:
    """Importing the client loads no library but the standard one's."""
    code = "import sys; before = set(sys.modules); import batchproof.service.client; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root)
    names = {name.partition(".")[0] for name in loaded.stdout.split()}

    ours = {name for name in loaded.stdout.split() if name.startswith("batchproof")}
    assert names - {"batchproof"} <= sys.stdlib_module_names
    assert {name for name in ours if "client" not in name} == {"batchproof", "batchproof.service"}


def test_an_address_is_checked() -> None:
    """What is no address is refused when the client is made."""
    with pytest.raises(ValueError, match="is not an address such as http"):
        Client("localhost:8000", "flowers")
