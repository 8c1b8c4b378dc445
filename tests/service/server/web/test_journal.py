"""A request is looked up in the journal over HTTP: found, run again, shown as it was kept, and refused with the reason."""

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchproof.service.access import keys_file
from batchproof.service.journal.segment import SUFFIX
from tests.bundles import CLASSES, NUMBERS, make_bundle
from tests.live import Live, live

ROWS = [[0.25, -1.0, 3.5, 0.5, 1e-3], [1.0, 2.0, -3.0, 4.0, 5.0]]
WAIT_S = 150.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder, inputs=NUMBERS)
    return folder


@pytest.fixture(scope="module")
def served(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve with two workers and a journal, in which every answer is before its caller has it."""
    journal = tmp_path_factory.mktemp("journal")
    flags = ["--journal", str(journal), "--journal-search", "yes", "--journal-full", "refuse", "--workers", "2"]
    with live(models, *flags) as server:
        predict(server, "loan/4711?", ROWS)
        yield server


def predict(server: Live, request_id: str, rows: list[list[float]], path: str = "/predict") -> dict[str, Any]:
    """Ask with an id; with journal_full = refuse, what is answered is written."""
    answer = httpx.post(server.url + path, json={"rows": rows}, headers={"x-request-id": request_id}, timeout=WAIT_S)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def look(server: Live, headers: dict[str, str] | None = None, **parameters: str) -> httpx.Response:
    """Look a request up; a worker that makes another search is asked again."""
    while True:
        answer = httpx.get(f"{server.url}/journal/request", params=parameters, headers=headers, timeout=WAIT_S)
        if answer.status_code != 429:
            return answer
        time.sleep(0.2)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_request_is_found_by_any_worker_while_its_segment_is_open(served: Live) -> None:
    """Each row has its values by name, its answer, equal bits alone and in a batch, and contributions, whichever worker wrote it."""
    said = predict(served, "loan-1", ROWS)
    for _ in range(4):  # both workers answer some
        found = look(served, id="loan-1").json()
        assert (found["rows"], found["problems"]) == (2, [])
        for place, decision in enumerate(found["decisions"]):
            assert decision["request"]["row"] == place
            assert not decision["request"]["segment_finished"]
            assert [one["value"] for one in decision["inputs"]] == ROWS[place]
            assert decision["prediction"] == said["predictions"][place]
            assert (decision["again"]["equal_alone"], decision["again"]["equal_in_batch"]) == (True, True)
            assert len(decision["explanation"]["contributions"]) == len(NUMBERS)
            assert (decision["model"]["name"], decision["model"]["version"]) == ("flowers", 1)


def test_an_id_may_have_characters_of_an_address_and_one_row_is_chosen(served: Live) -> None:
    """`loan/4711?` is found as it was sent, and `row` leaves one of its rows."""
    found = look(served, id="loan/4711?", row="1").json()
    assert (found["request_id"], found["rows"]) == ("loan/4711?", 1)
    assert [one["value"] for one in found["decisions"][0]["inputs"]] == ROWS[1]


def test_a_part_of_an_id_is_another_id(served: Live) -> None:
    """An id that is only the beginning of a recorded one is not found: 404 that names it and says why that may be."""
    answer = look(served, id="loan")
    assert refusal(answer) == (404, "unknown_request")
    assert "no request 'loan'" in answer.json()["error"]["message"]
    assert "journal_share" in answer.json()["error"]["message"]


def test_a_time_without_the_request_is_said(served: Live) -> None:
    """`since` and `until` leave out segments of other times, so the request is found in its own time only."""
    assert refusal(look(served, id="loan/4711?", until="2020-01-01")) == (404, "unknown_request")
    assert refusal(look(served, id="loan/4711?", since="2099-01-01T00:00:00Z")) == (404, "unknown_request")
    assert look(served, id="loan/4711?", since="2020-01-01", until="2099-01-01").status_code == 200


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "id: field required"),
        ({"id": "two words"}, "1 to 128 printable characters"),
        ({"id": "x" * 129}, "1 to 128 printable characters"),
        ({"id": "né"}, "1 to 128 printable characters"),
        ({"id": "x", "row": "-1"}, "row: input should be greater"),
        ({"id": "x", "since": "yesterday"}, "since: "),
        ({"id": "x", "model": "flowers"}, "model: extra inputs are not permitted"),
    ],
)
def test_a_wrong_parameter_is_named(served: Live, parameters: dict[str, str], words: str) -> None:
    """What cannot be looked for is 400 with the parameter and what is right, before anything is searched."""
    answer = look(served, **parameters)
    assert refusal(answer) == (400, "invalid_parameter")
    assert words in answer.json()["error"]["message"]


def test_an_auditor_gets_a_page(served: Live) -> None:
    """With Accept: text/html the answer is the page of `batchproof replay --html`, under a policy that allows no script."""
    answer = look(served, {"accept": "text/html"}, id="loan/4711?")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "<script" not in answer.text
    assert "Run again, every bit is equal" in answer.text
    assert "this request is as it was written" in answer.text


def test_the_document_names_it(served: Live) -> None:
    """The OpenAPI document has the route with its parameters and refusals."""
    document = httpx.get(f"{served.url}/openapi.json", timeout=WAIT_S).json()
    operation = document["paths"]["/journal/request"]["get"]
    assert [one["name"] for one in operation["parameters"]] == ["id", "row", "since", "until"]
    assert {"200", "400", "403", "404", "429", "503", "504"} <= set(operation["responses"])
    assert "journal" in operation["responses"]["404"]["description"]


def test_without_a_journal_it_says_so(models: Path) -> None:
    """A service that keeps none answers 404 and names the setting."""
    with live(models) as server:
        answer = look(server, id="x")
    assert refusal(answer) == (404, "no_journal")
    assert "the setting journal" in answer.json()["error"]["message"]


def test_it_stays_closed_without_keys_and_where_it_is_switched_off(models: Path, tmp_path: Path) -> None:
    """Without keys nobody reads it, on any address, until journal_search says yes; `no` closes it in any case."""
    journal = ["--journal", str(tmp_path / "journal")]
    for address in ("127.0.0.1", "0.0.0.0"):
        with live(models, *journal, "--host", address) as server:
            assert refusal(look(server, id="x")) == (403, "journal_not_shown")
    with live(models, *journal, "--host", "0.0.0.0", "--journal-search", "yes") as server:
        assert refusal(look(server, id="x")) == (404, "unknown_request")
    with live(models, *journal, "--journal-search", "no") as server:
        assert refusal(look(server, id="x")) == (403, "journal_not_shown")


def test_only_administrators_of_every_model_read_it(models: Path, tmp_path: Path) -> None:
    """No other scope, no key for some models, no public page and no missing key opens the rows of callers."""
    secrets: dict[str, str] = {}

    def key(name: str, **fields: Any) -> str:
        secrets[name] = keys_file.new_key()
        return keys_file.entry_text(keys_file.Key(name=name, sha256=keys_file.digest_of(secrets[name]), **fields))

    entries = [
        key("root", scopes=("admin",)),
        key("caller", scopes=("predict",)),
        key("others", scopes=("predict", "read", "metrics")),
        key("some", scopes=("admin",), models=("flowers",)),
    ]
    (tmp_path / "keys.toml").write_text("\n".join(entries))
    flags = ["--journal", str(tmp_path / "journal"), "--keys-file", str(tmp_path / "keys.toml")]
    flags += ["--public", "docs,models,metrics", "--journal-full", "refuse"]
    with live(models, *flags) as server:
        sent = {"x-api-key": secrets["caller"], "x-request-id": "loan-2"}
        assert httpx.post(f"{server.url}/predict", json={"rows": ROWS}, headers=sent, timeout=WAIT_S).status_code == 200
        assert refusal(look(server, id="loan-2")) == (401, "unauthorized")
        assert refusal(look(server, {"x-api-key": secrets["others"]}, id="loan-2")) == (403, "scope_missing")
        assert refusal(look(server, {"x-api-key": secrets["some"]}, id="loan-2")) == (403, "model_not_granted")
        found = look(server, {"x-api-key": secrets["root"]}, id="loan-2").json()
        assert [one["request"]["caller"] for one in found["decisions"]] == ["caller", "caller"]


def test_what_is_not_kept_is_not_shown(models: Path, tmp_path: Path) -> None:
    """A feature that is left out or hashed has no value here either, and its row is shown and not run again, with the reason."""
    (tmp_path / "secret").write_text("a secret of more than 16 bytes")
    flags = [
        "--journal",
        str(tmp_path / "journal"),
        "--journal-search",
        "yes",
        "--journal-full",
        "refuse",
        "--journal-leave-out",
        "f1",
    ]
    flags += ["--journal-hash", "f3", "--journal-hash-key", str(tmp_path / "secret")]
    with live(models, *flags) as server:
        said = predict(server, "loan-3", ROWS[:1])
        (decision,) = look(server, id="loan-3").json()["decisions"]
    given = {one["name"]: (one["value"], one["note"]) for one in decision["inputs"]}
    assert given["f0"] == (0.25, "")
    assert given["f1"] == (None, "left out of the journal")
    assert given["f3"][0] is None
    assert given["f3"][1].startswith("kept as the hash ")
    assert decision["again"] == {"was_run": False, "why": "the journal does not hold f1, f3"}
    assert decision["explanation"] is None
    assert decision["prediction"]["label"] == said["predictions"][0]["label"]


def test_a_changed_segment_is_named(models: Path, tmp_path: Path) -> None:
    """Where the rows of the request were changed on the disk, the segment is named with what is wrong, and no row of it is shown."""
    journal = tmp_path / "journal"
    with live(models, "--journal", str(journal), "--journal-search", "yes", "--journal-full", "refuse") as server:
        predict(server, "loan-4", ROWS)
    (path,) = journal.glob(f"*{SUFFIX}")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"loan-4") + 200] ^= 1
    path.write_bytes(raw)
    with live(models, "--journal", str(journal), "--journal-search", "yes") as server:
        answers = [look(server, headers, id="loan-4") for headers in ({}, {"accept": "text/html"})]
    for answer in answers:
        assert refusal(answer) == (503, "journal_not_read")
        assert f"{path.name}: was changed" in answer.text


def test_a_version_that_is_gone_leaves_its_outputs(models: Path, tmp_path: Path) -> None:
    """Where no bundle is the one that answered, values, outputs and bits are shown, and the reason why nothing ran."""
    journal = tmp_path / "journal"
    make_bundle(tmp_path / "models", inputs=NUMBERS, seed=7)
    with live(models, "--journal", str(journal), "--journal-search", "yes", "--journal-full", "refuse") as server:
        predict(server, "loan-5", ROWS[:1])
    with live(tmp_path / "models", "--journal", str(journal), "--journal-search", "yes") as server:
        (decision,) = look(server, id="loan-5").json()["decisions"]
    assert decision["prediction"] is None
    assert "is not the bundle that answered" in decision["again"]["why"]
    assert len(decision["bits"]["probabilities"]) == 8 * len(CLASSES["multiclass"] or ())


def child_of(pid: int) -> int:
    """Return the process that searches, once it is there."""
    while True:
        for entry in Path("/proc").iterdir():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if entry.name.isdigit() else 0
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == pid and b"batchproof.service.runtime.child_process" in command:
                return int(entry.name)
        time.sleep(0.01)


def search_held(server: Live, act: Callable[[int], None]) -> httpx.Response:
    """Begin a search, stop its process where it is, let `act` have its id; returns the answer to the search."""
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(look(server, id="x")))
    asking.start()
    child = child_of(server.process.pid)
    os.kill(child, signal.SIGSTOP)
    act(child)
    asking.join()
    return answers[0]


def test_a_search_holds_nobody_up(models: Path, tmp_path: Path) -> None:
    """While a search goes on, rows are answered and a second search gets 429; one whose process ends is 503."""
    with live(models, "--journal", str(tmp_path / "journal"), "--journal-search", "yes") as server:

        def act(child: int) -> None:
            predict(server, "meanwhile", ROWS)
            second = httpx.get(f"{server.url}/journal/request", params={"id": "x"}, timeout=WAIT_S)
            assert refusal(second) == (429, "overloaded")
            assert second.headers["retry-after"] == "2"
            os.kill(child, signal.SIGKILL)

        answer = search_held(server, act)
        assert refusal(answer) == (503, "journal_not_read")
        assert "SIGKILL" in answer.json()["error"]["message"]
        assert refusal(look(server, id="x")) == (404, "unknown_request")


def test_a_caller_that_goes_away_ends_its_search(models: Path, tmp_path: Path) -> None:
    """Nobody waits for the answer any more, so its process ends and the place is free for the next search."""
    with live(models, "--journal", str(tmp_path / "journal"), "--journal-search", "yes") as server:
        address = (server.host, server.port)
        with socket.create_connection(address) as caller:
            caller.sendall(b"GET /journal/request?id=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            child = child_of(server.process.pid)
            os.kill(child, signal.SIGSTOP)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # gone, and not half-closed
        while Path(f"/proc/{child}").exists():
            time.sleep(0.01)
        assert refusal(look(server, id="x")) == (404, "unknown_request")


def stopped_within_a_search(*flags: str) -> httpx.Response:
    """Return the answer to a search during which the service is told to stop; it ends meanwhile."""
    with live(*flags) as server:
        answer = search_held(server, lambda _: server.process.send_signal(signal.SIGTERM))
        server.process.wait(WAIT_S)
        assert refusal(answer) == (503, "draining")
    return answer


def test_a_stop_waits_for_no_search(models: Path, tmp_path: Path) -> None:
    """A service that is stopped ends the search, answers its caller 503 and exits with 0."""
    with pytest.raises(AssertionError, match="ended by itself with 0"):
        stopped_within_a_search(str(models), "--journal", str(tmp_path / "journal"), "--journal-search", "yes")
