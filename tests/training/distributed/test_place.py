"""Which process of how many: what a launcher sets, and what is refused."""

import pytest

from batchproof.training.data.tables.storage import allowed
from batchproof.training.distributed.place import Place, launched, place_of, talks
from batchproof.training.settings import SettingError, make


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return what sets variables, with none of a launcher's set."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "BATCHPROOF_STORE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone() -> None:
    """Without --processes and without a launcher there are no shards, and this process talks."""
    assert place_of(make({"target": "y"})) is None
    assert talks()
    assert not launched()


def test_one_process() -> None:
    """--processes 1 cuts batches as every number of processes does."""
    assert place_of(make({"target": "y", "processes": 1})) == Place(0, 1)


def test_a_launcher(environment: pytest.MonkeyPatch) -> None:
    """RANK, WORLD_SIZE and LOCAL_RANK are what torchrun, Ray and Spark set; only rank 0 talks."""
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        environment.setenv(name, value)
    assert place_of(make({"target": "y"})) == Place(5, 8, 1)
    assert not talks()


@pytest.mark.parametrize(
    "variables, values, sentence",
    [
        ({"RANK": "0", "WORLD_SIZE": "3"}, {}, "this run has 3 processes: 1, 2, 4 or 8 can share"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, {}, "RANK is 4 in a run of 4 processes: it must be below WORLD_SIZE."),
        ({"RANK": "0", "WORLD_SIZE": "many"}, {}, "WORLD_SIZE is 'many': it must be a whole number."),
        ({"RANK": "0", "WORLD_SIZE": "4"}, {"processes": 2}, "--processes is 2, but this run has 4"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, {"threads": 2}, "--threads is 2, but several processes"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, {"tune": 3}, "search in one process"),
        ({}, {"processes": 2}, "a program of yours needs torchrun"),
        ({}, {"processes": 1, "time_budget_s": 3.0}, "search in one process"),
    ],
)
def test_refusals(
    environment: pytest.MonkeyPatch, variables: dict[str, str], values: dict[str, object], sentence: str
) -> None:
    """A run that cannot be is refused in one sentence."""
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(SettingError, match=sentence.replace("(", r"\(")):
        place_of(make({"target": "y", **values}))


def test_three_processes_are_refused_before_they_start() -> None:
    """--processes takes what can share eight shards."""
    with pytest.raises(SettingError, match="--processes is 3: use 1, 2, 4 or 8"):
        place_of(make({"target": "y", "processes": 3}))


@pytest.mark.parametrize(
    "rank, size, speaks", [("0", "2", True), ("1", "2", False), ("x", "2", True), ("2", "2", True)]
)
def test_a_wrong_place_is_told(monkeypatch: pytest.MonkeyPatch, rank: str, size: str, *, speaks: bool) -> None:
    """A process whose place in its run is wrong says so, whatever its number: nobody else would."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    assert talks() is speaks


def test_processes_share_the_memory_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default each takes its part of half the memory, as far as the launcher says how many there are."""
    alone = allowed(None)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert allowed(None) == alone
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert allowed(None) == alone // 2
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setenv("BATCHPROOF_STORE", "file")  # all are on this machine
    assert allowed(None) == alone // 4
    assert allowed("1GB") == 10**9
