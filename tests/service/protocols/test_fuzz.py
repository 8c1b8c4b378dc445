"""A short run of the broken requests of tests/fuzz.py, on decoders and on a whole server beside a good caller."""

import http.client
import itertools
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bundles import INPUTS, NUMBERS, make_bundle, random_rows, signature_of
from tests.fuzz import HEADER_VALUES, Mutator, Request, Seed, TooSlowError, outcome, run, seeds, stop_slow
from tests.live import live

PATHS = {"native": "/models/{}/predict", "oip": "/v2/models/{}/infer", "invocations": "/invocations"}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    """Return the good requests."""
    return seeds(tmp_path_factory.mktemp("models"))


@pytest.fixture
def alarm() -> Iterator[None]:
    """Let an input that takes more than a second of processor time fail."""
    before = signal.signal(signal.SIGPROF, stop_slow)
    yield
    signal.signal(signal.SIGPROF, before)


def test_good_requests_are_answered(pool: list[Seed]) -> None:
    """The mutants begin at requests that are taken, but for forms that another dialect has."""
    answered = [seed for seed in pool if outcome(seed).endswith("answered")]
    assert {seed.target.name for seed in answered} == {seed.target.name for seed in pool}
    assert len(answered) > len(pool) / 2


def test_mutants_are_refused_or_answered(pool: list[Seed], alarm: None) -> None:
    """Ten thousand broken requests: a 4xx or an answer, within a second, and nothing else."""
    findings: list[str] = []
    found = run(iter(Mutator(7, pool)), 10_000, lambda seed, error: findings.append(f"{seed.request}: {error!r}"))
    assert findings == []
    assert found.total() == 10_000


def test_an_input_that_takes_too_long_is_a_finding(
    pool: list[Seed], alarm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that goes on and on is stopped by its own processor time and reported."""
    monkeypatch.setattr("tests.fuzz.LIMIT_S", 0.05)
    monkeypatch.setattr("tests.fuzz.outcome", lambda seed: next(one for one in itertools.count() if one < 0))
    findings: list[BaseException] = []
    found = run(iter(pool), 1, lambda seed, error: findings.append(error))
    assert (found["finding"], type(findings[0])) == (1, TooSlowError)


HEADER = st.sampled_from(list(HEADER_VALUES)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(HEADER_VALUES[name]) | st.binary(max_size=8))
)


@given(st.data())
def test_any_bytes_are_refused_or_answered(pool: list[Seed], data: st.DataObject) -> None:
    """Any bytes with any headers: a 4xx or an answer, and nothing else."""
    target = data.draw(st.sampled_from(pool)).target
    outcome(Seed(target, Request(data.draw(st.binary()), data.draw(st.lists(HEADER, max_size=3)))))


def test_a_neighbour_is_never_failed(tmp_path: Path, pool: list[Seed]) -> None:
    """While broken requests arrive, a good caller on the same models always gets the bits it gets alone."""
    for name, inputs in (("flowers", INPUTS), ("numbers", NUMBERS)):
        make_bundle(tmp_path, name, inputs=inputs)
    body = json.dumps({"rows": random_rows(signature_of(), 3)})
    with live(tmp_path, "--default-model", "numbers") as server:
        answers: list[tuple[int, object]] = []
        stop = threading.Event()

        def go_on() -> None:
            good = http.client.HTTPConnection(server.host, server.port, timeout=30)
            while not stop.is_set() or len(answers) < 2:
                good.request("POST", "/models/flowers/predict", body)
                answer = good.getresponse()
                answers.append((answer.status, json.loads(answer.read())["predictions"]))
            good.close()

        neighbour = threading.Thread(target=go_on)
        neighbour.start()
        statuses = [send(server.host, server.port, mutant) for mutant in itertools.islice(Mutator(3, pool), 1500)]
        stop.set()
        neighbour.join(30)
    assert max(statuses) < 500
    assert {200, 400} <= set(statuses)
    assert all(answer == (200, answers[0][1]) for answer in answers)


def send(host: str, port: int, mutant: Seed) -> int:
    """Send one mutant to its route and return the status."""
    name, dialect = mutant.target.name.split()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.putrequest("POST", PATHS[dialect].format(name))
    for header, value in mutant.request.headers:
        connection.putheader(header.decode(), value)
    connection.putheader("Content-Length", str(len(mutant.request.body)))
    connection.endheaders(mutant.request.body)
    status = connection.getresponse().status
    connection.close()
    return status
