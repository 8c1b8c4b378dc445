"""The service keeps what it answers: every protocol, both promises, workers, full and slow disks, and kills."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from batchproof.service.__main__ import main
from batchproof.service.journal import reader
from batchproof.service.server.grpc.messages import SERVICE, classes
from tests.bundles import NUMBERS, make_bundle
from tests.http_client import ask
from tests.live import Live, free_port, live

ROWS = [[0.25, -1.0, 3.5, 0.5, 1e-3], [1.0, 2.0, -3.0, 4.0, 5.0], [0.0, 0.0, 0.0, -0.0, 9.0]]
MESSAGES = classes()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder, inputs=NUMBERS)
    return folder


def kept(journal: Path) -> list[dict[str, Any]]:
    """Return every row of a journal that has no problem."""
    segments, problems = reader.check(journal)
    assert problems == []
    return [row for part in segments for batch in part.batches() for row in batch.to_pylist()]


def counted(server: Live) -> dict[str, float]:
    """Return what /metrics says of the journal: rows by outcome, failures and segments."""
    text = ask(server, "GET", "/metrics").body.decode()
    rows = re.findall(r'batchproof_journal_rows_total\{outcome="(\w+)"\} (\S+)', text)
    others = re.findall(r"^batchproof_journal_(failures|segments)_total (\S+)", text, flags=re.MULTILINE)
    return {name: float(value) for name, value in [*rows, *others]}


def infer(port: int) -> None:
    """Ask over gRPC with the id `grpc`."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            MESSAGES["ModelInferRequest"].SerializeToString,
            MESSAGES["ModelInferResponse"].FromString,
        )
        request = MESSAGES["ModelInferRequest"](model_name="flowers")
        tensor = request.inputs.add(name="features", datatype="FP64", shape=[len(ROWS), 5])
        tensor.contents.fp64_contents.extend(value for row in ROWS for value in row)
        call(request, timeout=20.0, wait_for_ready=True, metadata=(("x-request-id", "grpc"),))


CSV = "f0,f1,f2,f3,f4\n" + "\n".join(",".join(map(repr, row)) for row in ROWS)
TENSOR = {"name": "features", "datatype": "FP64", "shape": [3, 5], "data": ROWS}
REQUESTS: dict[str, tuple[str, Any, str]] = {
    "native": ("/predict", {"rows": ROWS}, "application/json"),
    "oip": ("/v2/models/flowers/infer", {"inputs": [TENSOR]}, "application/json"),
    "v1": ("/v1/models/flowers:predict", {"instances": ROWS}, "application/json"),
    "v1_explain": ("/v1/models/flowers:explain", {"instances": ROWS}, "application/json"),
    "invocations": ("/invocations", {"instances": ROWS}, "application/json"),
    "tables": ("/predict", CSV, "text/csv"),
}


@pytest.mark.parametrize("full", ["drop", "refuse"])
def test_every_protocol_is_kept(models: Path, tmp_path: Path, full: str) -> None:
    """Whatever protocol a row comes by, it is kept with its request's id, and its bits are equal when it runs again."""
    port = free_port()
    flags = ("--journal", str(tmp_path / "journal"), "--journal-full", full, "--grpc-port", str(port))
    with live(models, *flags) as server:
        for name, (path, body, content_type) in REQUESTS.items():
            answer = ask(server, "POST", path, body, x_request_id=name, content_type=content_type)
            assert answer.status == 200, answer.body
        infer(port)
    rows = kept(tmp_path / "journal")

    assert Counter(row["request_id"] for row in rows) == dict.fromkeys([*REQUESTS, "grpc"], 3)
    assert all(row["protocol"] == row["request_id"] for row in rows)
    for row in rows:
        assert [row[f"in:f{place}"] for place in range(5)] == ROWS[row["row"]]
    assert main(["replay", str(tmp_path / "journal"), "--models", str(models)]) == 0


def test_only_the_callers_good_rows_are_kept(models: Path, tmp_path: Path) -> None:
    """Rows that were refused and rows that ran for an explanation are not kept; the others keep their places."""
    bad = [ROWS[0], ["x", 0, 0, 0, 0], ROWS[1]]
    table = "f0,f1,f2,f3,f4\n0.25,-1,3.5,0.5,1e-3\nx,0,0,0,0\n1,2,-3,4,5\n"
    with live(models, "--journal", str(tmp_path)) as server:
        for name, body in (("rows", {"rows": bad, "on_error": "row"}), ("none", {"rows": [bad[1]], "on_error": "row"})):
            assert ask(server, "POST", "/predict", body, x_request_id=name).status == 200
        explained = ask(server, "POST", "/predict", {"rows": ROWS, "explain": True}, x_request_id="explained")
        assert len(explained.content["predictions"]) == 3
        ask(server, "POST", "/predict?on_error=row", table, x_request_id="table", content_type="text/csv")
        assert ask(server, "POST", "/predict", {"rows": bad}, x_request_id="refused").status == 422
    places = {(row["request_id"], row["row"]) for row in kept(tmp_path)}

    assert places == {("rows", 0), ("rows", 2), ("table", 0), ("table", 2), *(("explained", row) for row in range(3))}


def test_workers_keep_chains_of_their_own(models: Path, tmp_path: Path) -> None:
    """Several workers write side by side; together they keep every answer, and the counts of all are shown."""
    flags = ("--journal", str(tmp_path), "--workers", "2")
    with (
        live(models, *flags) as server,
        httpx.Client(base_url=server.url) as one,
        httpx.Client(base_url=server.url) as other,  # two open connections are on two workers
    ):
        deadline_s = time.monotonic() + 20
        while b"batchproof_workers 2.0" not in ask(server, "GET", "/metrics").body and time.monotonic() < deadline_s:
            time.sleep(0.1)
        for number in range(60):
            client = one if number % 2 else other
            headers = {"X-Request-Id": f"id-{number}"}
            assert client.post("/predict", json={"rows": ROWS[:1]}, headers=headers).status_code == 200
        deadline_s = time.monotonic() + 10
        while counted(server)["written"] < 60 and time.monotonic() < deadline_s:
            time.sleep(0.1)
        assert counted(server) == {"written": 60, "dropped": 0, "refused": 0, "failures": 0, "segments": 0}
    rows = kept(tmp_path)

    assert sorted(row["request_id"] for row in rows) == sorted(f"id-{number}" for number in range(60))
    assert len({part.header["chain"] for part in reader.check(tmp_path)[0]}) == 2


def test_a_reload_keeps_the_journal(tmp_path: Path) -> None:
    """A new version's answers go to a chain of their own, and the old one's segment is finished while service goes on."""
    models, journal = tmp_path / "models", tmp_path / "journal"
    make_bundle(models, inputs=NUMBERS)
    flags = ("--journal", str(journal), "--model-control", "poll", "--poll-s", "0.2")
    with live(models, *flags) as server:
        ask(server, "POST", "/predict", {"rows": ROWS}, x_request_id="before")
        make_bundle(tmp_path / "made", version=2, seed=1, inputs=NUMBERS)
        (tmp_path / "made" / "flowers" / "2").rename(models / "flowers" / "2")
        deadline_s = time.monotonic() + 20
        while counted(server)["segments"] < 1 and time.monotonic() < deadline_s:
            ask(server, "POST", "/predict", {"rows": ROWS}, x_request_id="meanwhile")
            time.sleep(0.1)
        assert counted(server)["segments"] == 1
        ask(server, "POST", "/predict", {"rows": ROWS}, x_request_id="after")
    segments, problems = reader.check(journal)
    ids = {
        part.header["version"]: {row["request_id"] for batch in part.batches() for row in batch.to_pylist()}
        for part in segments
    }

    assert problems == []
    assert "before" in ids[1]
    assert "after" in ids[2]
    assert "after" not in ids[1]


def test_a_share_is_kept(models: Path, tmp_path: Path) -> None:
    """With journal_share about that share of the requests is kept, each with all of its rows."""
    with live(models, "--journal", str(tmp_path), "--journal-share", "0.3") as server, httpx.Client() as client:
        for _ in range(400):
            client.post(f"{server.url}/predict", json={"rows": ROWS}).raise_for_status()
    per_request = Counter(row["request_id"] for row in kept(tmp_path))

    assert 60 < len(per_request) < 190  # five standard deviations around 120
    assert set(per_request.values()) == {3}


def test_personal_columns_stay_out_and_segments_are_signed(models: Path, tmp_path: Path) -> None:
    """A left-out feature is nowhere in the journal, a hashed one has no value, and a finished segment is signed."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (tmp_path / "key").write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "pub").write_bytes(
        private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "secret").write_text("sixteen bytes or more")
    flags = (
        *("--journal", str(tmp_path / "journal"), "--journal-leave-out", "f0", "--journal-hash", "f1"),
        *("--journal-hash-key", str(tmp_path / "secret"), "--journal-key", str(tmp_path / "key")),
    )
    with live(models, *flags) as server:
        assert ask(server, "POST", "/predict", {"rows": ROWS}).status == 200
    rows = kept(tmp_path / "journal")

    assert all("in:f0" not in row and len(row["in:f1"]) == 16 for row in rows)
    assert [row["in:f2"] for row in rows] == [row[2] for row in ROWS]
    command = ["replay", str(tmp_path / "journal"), "--models", str(models), "--json"]
    assert main([*command, "--trusted-key", str(tmp_path / "pub")]) == 1  # rows that are not whole cannot run


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--journal-hash", "f0"), "journal_hash needs journal_hash_key"),
        (("--journal-leave-out", "f0,f9"), "journal_leave_out names 'f9', which no model has as a feature."),
        (("--journal-keep-s", "60"), "keep it longer than that"),
        (("--journal-key", "absent.pem"), "absent.pem cannot be read"),
        (("--journal", "/proc/journal"), "The journal cannot be written"),
        (("--journal", "", "--journal-upload", "s3://bucket/journal"), "journal_upload needs journal"),
    ],
)
def test_settings_that_do_not_fit_stop_the_start(
    models: Path, tmp_path: Path, root: Path, flags: tuple[str, ...], sentence: str
) -> None:
    """What the journal cannot do as it was set is said in one sentence, and nothing is served."""
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", "0"]
    ended = subprocess.run(
        [*command, "--journal", str(tmp_path), *flags],
        capture_output=True,
        text=True,
        cwd=root,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, len(ended.stderr.strip().splitlines()[-1:])) == (3, 1)
    assert sentence in ended.stderr


def test_a_service_without_a_journal_needs_no_pyarrow(models: Path, root: Path) -> None:
    """Without the setting pyarrow is not imported; with it, where pyarrow is missing, the start says what to install."""
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from batchproof.service.configuration import settings\n"
        "from batchproof.service.errors import SettingError\n"
        "from batchproof.service.server.serving import app\n"
        f"app.load(settings.load({{'models': {str(models)!r}}}, {{}}).settings).close()\n"
        "try: app.load(settings.load({'models': %r, 'journal': 'x'}, {}).settings)\n"
        "except SettingError as error: print(error)\n"
    ).replace("%r", repr(str(models)))
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60, check=True
    )
    assert "The journal needs pyarrow, which is not installed: pip install" in ended.stdout


def writers_of(pid: int) -> list[int]:
    """Return the writing processes that a worker has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child) for child in children if b"journal.writing.process" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Callers:
    """Threads that ask one after another with ids of their own, and remember which were answered."""

    def __init__(self, url: str) -> None:
        self.answered: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number, url)) for number in range(4)]
        for thread in self._threads:
            thread.start()

    def _call(self, thread: int, url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            for number in range(100_000):
                if self._stop.is_set():
                    return
                headers = {"X-Request-Id": f"{thread}-{number}"}
                try:
                    answer = client.post("/predict", json={"rows": ROWS[:1]}, headers=headers)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    self.answered.append(f"{thread}-{number}")

    def wait_for(self, count: int) -> None:
        """Wait until so many more are answered."""
        count, deadline_s = len(self.answered) + count, time.monotonic() + 60
        while len(self.answered) < count and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert len(self.answered) >= count

    def end(self) -> None:
        """Let them end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("killed", ["the worker", "its writing process", "both"])
def test_a_kill_under_load_loses_no_answer(models: Path, tmp_path: Path, killed: str) -> None:
    """With `refuse`, each answer that reached its caller before kill -9 is in the journal, and its bits are equal again.

    Where only the writing process is killed, the service goes on with another one.
    """
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", "0"]
    flags = ["--journal", str(tmp_path), "--journal-full", "refuse", "--log-format", "json"]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        ready = next(event for event in map(json.loads, process.stderr) if event["event"] == "ready")
        threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the service
        callers = Callers(f"http://127.0.0.1:{ready['port']}")
        callers.wait_for(200)
        (writer,) = writers_of(process.pid)
        for pid in {"the worker": [process.pid], "both": [writer, process.pid]}.get(killed, [writer]):
            os.kill(pid, signal.SIGKILL)
        if killed == "its writing process":
            callers.wait_for(200)
            assert writers_of(process.pid) != [writer]
        callers.end()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == (0 if killed == "its writing process" else -signal.SIGKILL)
        deadline_s = time.monotonic() + 30
        while not ended(writer) and time.monotonic() < deadline_s:
            time.sleep(0.01)

    assert set(callers.answered) <= {row["request_id"] for row in kept(tmp_path)}
    assert main(["replay", str(tmp_path), "--models", str(models)]) == 0


WAIT_S = 120.0  # generous: the tests below wait for what must happen, however slow the machine is
LIMITED = ("bash", "-c", 'ulimit -f 16 && exec "$@"', "-")  # no file may grow beyond 16 KB, as on a full disk


@pytest.fixture
def full_disk(models: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Live]:
    """Serve with a journal whose files may not grow beyond 16 KB."""
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", "0"]
    flags = ["--journal", str(tmp_path / "journal"), "--journal-full", request.param, "--log-format", "json"]
    log = (tmp_path / "log").open("w+")
    with subprocess.Popen([*LIMITED, *command, *flags], stderr=log, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            deadline_s = time.monotonic() + WAIT_S
            while '"ready"' not in (text := (tmp_path / "log").read_text()) and time.monotonic() < deadline_s:
                time.sleep(0.05)
            ready = next(event for event in map(json.loads, text.splitlines()) if event["event"] == "ready")
            yield Live("127.0.0.1", ready["port"], process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()
            log.close()


@pytest.mark.parametrize("full_disk", ["refuse"], indirect=True)
def test_a_full_disk_refuses_in_the_protocols_shape(full_disk: Live, tmp_path: Path) -> None:
    """With `refuse`, callers get 503 while the disk takes nothing; what was answered is kept, and service goes on after."""
    answered: list[str] = []
    refused: Counter[str] = Counter()
    deadline_s = time.monotonic() + WAIT_S
    with httpx.Client(base_url=full_disk.url, timeout=WAIT_S) as client:

        def is_answered(name: str, number: int) -> bool:
            path, body, content_type = REQUESTS[name]
            content = body if isinstance(body, str) else json.dumps(body)
            headers = {"X-Request-Id": f"{name}-{number}", "Content-Type": content_type}
            answer = client.post(path, content=content, headers=headers)
            if answer.status_code == 200:
                answered.append(f"{name}-{number}")
                return True
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "The journal could not record this answer" in answer.text
            assert ("journal_full" in answer.text) == (name in ("native", "tables"))
            refused[name] += 1
            return False

        numbers = itertools.count()
        while min(refused[name] for name in REQUESTS) < 5 and time.monotonic() < deadline_s:
            number = next(numbers)
            for name in REQUESTS:
                is_answered(name, number)
        assert min(refused[name] for name in REQUESTS) >= 5, refused
        counts = counted(full_disk)
        assert set(answered) == {row["request_id"] for row in kept(tmp_path / "journal")}
        assert counts["written"] == 3 * len(answered)
        assert counts["refused"] > 0
        assert counts["failures"] > 0
        while not is_answered("native", next(numbers)):
            assert time.monotonic() < deadline_s, "service did not go on"
            time.sleep(0.05)


@pytest.mark.parametrize("full_disk", ["drop"], indirect=True)
def test_a_full_disk_drops_and_counts(full_disk: Live, tmp_path: Path) -> None:
    """With `drop`, callers notice nothing, and the counts say exactly how many rows are kept and how many are not."""
    with httpx.Client(base_url=full_disk.url, timeout=WAIT_S) as client:
        for _ in range(600):
            client.post("/predict", json={"rows": ROWS}).raise_for_status()
    deadline_s = time.monotonic() + WAIT_S
    while (
        sum((counts := counted(full_disk))[name] for name in ("written", "dropped")) < 1800
        and time.monotonic() < deadline_s
    ):
        time.sleep(0.1)

    assert counts["written"] + counts["dropped"] == 1800
    assert counts["dropped"] > 0
    assert counts["refused"] == 0
    assert len(kept(tmp_path / "journal")) == counts["written"]
