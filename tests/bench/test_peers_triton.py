"""A Triton beside Batchproof: what it is asked, how its models are found, and what is not known of a server elsewhere."""

import http.server
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import report
from bench.contenders import Contender
from bench.loads import Result
from bench.make_model import REFERENCE, build, build_plain, rows_of, write_bundle
from bench.peers import triton
from bench.rounds import Measured
from bench.server import Attached, NotReady, started


class Fake(http.server.BaseHTTPRequestHandler):
    """Loads models when asked to, where it is `willing`, and answers nothing else."""

    loaded: set[str]
    willing: bool

    def do_GET(self) -> None:
        """Answer /v2/models/NAME/ready."""
        self._answer(200 if self.path.split("/")[3] in self.loaded else 400)

    def do_POST(self) -> None:
        """Answer /v2/repository/models/NAME/load."""
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.willing:
            self.loaded.add(self.path.split("/")[4])
        self._answer(200 if self.willing else 503)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("triton")
    write_bundle(REFERENCE, folder / "reference", build(REFERENCE).SerializeToString())
    (folder / "peer.onnx").write_bytes(build_plain().SerializeToString())
    return folder


@pytest.fixture
def url() -> Iterator[str]:
    Fake.loaded, Fake.willing = {"reference"}, True
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fake) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_server_that_runs_loads_what_it_lacks(url: str, work: Path) -> None:
    """Models that are not ready are loaded through the API, and both are asked at the address."""
    found = list(triton.contenders(url, None, work))

    assert Fake.loaded == {"reference", "reference_plain"}
    assert [contender.launch for contender in found] == [Attached("127.0.0.1", int(url.rpartition(":")[2]))] * 2
    assert (work / "triton" / "reference" / "config.pbtxt").is_file()


def test_a_server_without_the_models_is_refused(url: str, work: Path) -> None:
    """A Triton that does not load them ends the run with the folders that it needs."""
    Fake.willing = False

    with pytest.raises(SystemExit, match=r"no model reference_plain that is ready .*Copy the folders of .*triton"):
        list(triton.contenders(url, None, work))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("https://localhost:8000", "no TLS"),
        ("http://127.0.0.1:9/v2", r"give http://HOST:PORT"),
        ("http://127.0.0.1:9", "Nothing answers at"),
        ("no/such/tritonserver", "no such program"),
        (__file__, "no backend onnxruntime.*--triton-backends"),
    ],
)
def test_what_is_no_triton_is_refused(given: str, sentence: str, work: Path) -> None:
    """An address or a path that cannot be measured ends the run with one sentence that says what would be right."""
    with pytest.raises(SystemExit, match=sentence):
        list(triton.contenders(given, None, work))


@pytest.mark.parametrize(("place", "kind"), [(0, np.float64), (1, np.float32)])
def test_requests_carry_the_rows(place: int, kind: type, url: str, work: Path) -> None:
    """JSON and binary requests have the rows of the other servers, in the type that the model takes."""
    requests = list(triton.contenders(url, None, work))[place].requests
    wanted = np.array(rows_of(REFERENCE, 1000, 1000)).astype(kind)

    content = json.loads(requests["D"].body)
    length = int(requests["E"].headers["Inference-Header-Content-Length"])
    head = json.loads(requests["E"].body[:length])

    assert content["inputs"][0]["shape"] == [1000, 32]
    np.testing.assert_array_equal(np.array(content["inputs"][0]["data"], kind), wanted.ravel())
    assert requests["E"].body[length:] == wanted.tobytes()
    assert head["inputs"][0]["parameters"]["binary_data_size"] == wanted.nbytes


def test_what_is_not_known_is_not_shown(url: str, work: Path) -> None:
    """A server that others started has no processor time, memory or start; an answer that is wrong means that it is not ready."""
    contender = next(iter(triton.contenders(url, None, work)))
    with (
        pytest.raises(NotReady, match="gives no right answer"),
        started(contender.launch, contender.requests["A"], work),
    ):
        pass

    known = Measured(
        Contender("Batchproof, 1 worker", 1, contender.launch, {}), {"B": [Result(5, 5, 1, 2, 3, 0, 0, 7, 0.5)]}
    )
    unknown = Measured(contender, {"B": [Result(4, 4, 1, 2, 3, 0, 0)]})
    lines = report.table([known, unknown], "none").splitlines()

    assert math.isnan(unknown.loads["B"][0].server_cpu_us)
    assert unknown.median("B", "server_cpu_us") is None
    assert lines[-1] == "| Triton, exported | 4 | 2.00 | - | - | - | 0 | - |"
    assert lines[-2].endswith("| 7 | - | - | 0 | 0.50 |")
