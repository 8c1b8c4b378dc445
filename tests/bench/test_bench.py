"""The benchmark's own arithmetic: what the generators read, time and sum up. Nothing here asserts a speed."""

import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from bench import chart, contenders, history, loads, open_loop, overload
from bench.bodies import WrongAnswer, native, oip, parse_oip
from bench.connection import Broken, Connection, payload
from bench.make_model import MIXED, REFERENCE, Shape, build, rows_of, write_bundle


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers 200 to the path /good, 429 to every other, and closes the connection after /close."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer by the path."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if self.path in ("/good", "/close") else 429)
        self.send_header("Content-Length", "2")
        if self.path == "/close":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield ("127.0.0.1", server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("bench")
    for shape in (REFERENCE, MIXED):
        write_bundle(shape, folder, build(shape).SerializeToString())
    return folder


def sent(intended: list[float], done: list[float], status: list[int], kind: list[int] | None = None) -> open_loop.Sent:
    times = np.array(intended)
    return open_loop.Sent(
        np.array(kind or [0] * len(intended)), times, times, times, np.array(done), np.array(status), 0.1
    )


def test_wrk_result() -> None:
    """Rates count 2xx answers only, and microseconds become milliseconds."""
    printed = (
        'noise\nWRK {"requests": 1000, "refused": 100, "broken": 3, "duration_us": 2000000, '
        '"p50_us": 1500, "p90_us": 2000, "p99_us": 4000, "max_us": 9000}\n'
    )

    result = loads.read(printed, rows=10)

    assert (result.requests_per_s, result.rows_per_s, result.p50_ms, result.p99_ms) == (450, 4500, 1.5, 4.0)
    assert (result.refused, result.broken) == (100, 3)


def test_wrk_failure() -> None:
    """A wrk that printed no result is an error that shows what it printed."""
    with pytest.raises(ValueError, match="unable to connect"):
        loads.read("unable to connect to 127.0.0.1", rows=1)


@pytest.mark.parametrize("shape", [REFERENCE, MIXED], ids=lambda shape: shape.name)
def test_bundles_are_genuine(shape: Shape, work: Path) -> None:
    """The service's own reader takes the benchmark's bundles."""
    read = bundle.read(work / shape.name / "1")

    assert read.manifest.name == shape.name
    assert len(read.manifest.signature.inputs) == shape.numeric + shape.categorical


def test_wrong_answers_are_noticed(work: Path) -> None:
    """An answer that is off in one probability is refused, the right one is not."""
    request = native(REFERENCE, 2, named=False, models=work)
    expected = np.asarray(request.expected)

    def answer(error: float) -> bytes:
        rows = [{"low": low + error, "middle": middle, "high": high} for low, middle, high in expected.tolist()]
        return json.dumps({"predictions": [{"probabilities": row} for row in rows]}).encode()

    request.compare(answer(0), {})
    with pytest.raises(WrongAnswer, match="wrong probabilities"):
        request.compare(answer(1e-3), {})


def test_binary_request(work: Path) -> None:
    """The binary body is the JSON head, as long as its header says, and the rows as float32 bytes."""
    request = oip(3, binary=True, models=work)
    length = int(request.headers["Inference-Header-Content-Length"])

    rows = np.frombuffer(request.body[length:], np.float32).reshape(3, 32)

    np.testing.assert_array_equal(rows, np.array(rows_of(REFERENCE, 3, 3), np.float32))


def test_binary_answer() -> None:
    """The probabilities are found behind an output that comes before them."""
    head = (
        b'{"outputs":[{"name":"scores","parameters":{"binary_data_size":12}},'
        b'{"name":"probabilities","parameters":{"binary_data_size":12}}]}'
    )
    content = head + np.zeros(3, np.float32).tobytes() + np.array([0.25, 0.5, 0.25], np.float32).tobytes()

    assert parse_oip(content, {"inference-header-content-length": str(len(head))}).tolist() == [[0.25, 0.5, 0.25]]


def test_open_loop_counts_every_request(address: tuple[str, int]) -> None:
    """Each request gets its own status, on connections of its kind, also where the server closes them."""
    payloads = [payload("POST", path, {}, b"x") for path in ("/good", "/full", "/close")]
    times = [np.linspace(0, 0.05, count) for count in (7, 5, 4)]

    found = open_loop.send(address, payloads, times, [2, 1, 1])

    assert [found.status[found.kind == kind].tolist() for kind in range(3)] == [[200] * 7, [429] * 5, [200] * 4]
    assert np.all(np.diff(found.intended_s) >= 0)
    assert np.all(found.done_s >= found.sent_s)
    assert np.all(found.sent_s >= found.intended_s)


def test_latency_counts_from_the_intended_time() -> None:
    """A request that left late has waited since it was due."""
    late = open_loop.Sent(
        np.array([0]), np.array([1.0]), np.array([1.5]), np.array([1.5]), np.array([1.6]), np.array([200]), 0.1
    )

    assert late.latency_ms(late.good()).tolist() == pytest.approx([600])
    assert late.late_p99_ms() == pytest.approx(500)


def test_broken_answers(address: tuple[str, int]) -> None:
    """A connection that the other side has closed is reported, not taken for an answer."""
    connection = Connection(address, 0)
    connection.socket.shutdown(2)

    with pytest.raises(Broken, match="closed"):
        connection.read()
    connection.close()


def test_poisson_arrivals() -> None:
    """Arrivals are sorted, inside their window and as many as the rate says, give or take five deviations."""
    times = open_loop.poisson(1000, 2, 6, seed=0)

    assert times.min() >= 2
    assert times.max() < 6
    assert np.all(np.diff(times) >= 0)
    assert abs(len(times) - 4000) < 5 * 4000**0.5


def test_overload_row() -> None:
    """Goodput counts answers inside the phase, refusals are by status, latencies are those of the admitted."""
    found = sent([0.1, 0.2, 0.3, 0.9, 1.5], [0.2, 0.4, 0.31, 1.4, 1.6], [200, 200, 429, 200, 200])

    row = overload.row(found, overload.Phase(2.0, 0.0, 1.0))

    assert (row.offered_per_s, row.goodput_per_s, row.refused) == (4.0, 2.0, {429: 1})
    assert row.p50_ms == pytest.approx(200)


def test_phases() -> None:
    """Every overload lies between two calms, and no time is left out."""
    plan = overload.phases(calm_s=2, over_s=3)

    assert [phase.factor for phase in plan] == [0.5, 2, 0.5, 5, 0.5, 10, 0.5]
    assert all(before.end_s == after.begin_s for before, after in pairwise(plan))


def test_comparison() -> None:
    """Runs are compared by their ratios to the floor, so that a slower machine alone changes nothing."""

    def run(commit: str, ours: float, floor: float) -> history.Entry:
        rates = {"ours": ours, "floor": floor}
        contenders = {name: {"loads": {"B": {"requests_per_s": rate}}} for name, rate in rates.items()}
        return {"commit": commit, "time": "today", "contenders": contenders}

    lines = history.compare(run("a", 100, 200), run("b", 60, 100), "floor")

    assert len(lines) == 2
    assert "0.500 ->  0.600" in lines[1]
    assert "+20.0 %" in lines[1]


def test_history_is_kept(tmp_path: Path) -> None:
    """Runs are read back in the order they were appended."""
    path = tmp_path / "new" / "history.jsonl"
    history.append(path, {"commit": "a"})
    history.append(path, {"commit": "b"})

    assert [run["commit"] for run in history.read(path)] == ["a", "b"]


def test_charts_are_svg() -> None:
    """Both kinds of picture are well-formed XML that holds its labels, escaped."""
    drawn = chart.bars(
        "t", [chart.Panel("p", [chart.Bar("a < b", 2.0, ours=True), chart.Bar("none", None, ours=False)])]
    )
    plotted = chart.plots("t", [chart.Plot("p", [chart.Series("s & t", [0, 1, 2], [0.0, 5.0, 1.0])])], "seconds")

    assert "a < b" in [element.text for element in ET.fromstring(drawn).iter()]
    assert "s & t" in [element.text for element in ET.fromstring(plotted).iter()]


def test_start_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measured start finds the bytecode of every module, whatever was edited since the last one."""
    module = tmp_path / "service" / "wire" / "new.py"
    module.parent.mkdir(parents=True)
    module.write_text("VALUE = 1\n")
    monkeypatch.setattr(contenders, "ROOT", tmp_path)
    contenders.serve(tmp_path / "models", 1)

    assert Path(importlib.util.cache_from_source(str(module))).exists()
