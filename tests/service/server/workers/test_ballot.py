"""The two phases of a reload as the supervisor runs them: everybody or nobody, whoever dies at which moment."""

import socket
from typing import cast

import orjson
import pytest

from batchproof.service.inference.catalogue.plan import Entry, Fault, Plan
from batchproof.service.server.workers import control
from batchproof.service.server.workers.ballot import DIFFERS, MOST_DEATHS, Ballot
from batchproof.service.server.workers.connection_balancer import Worker

ENTRY = Entry("flowers", 2, "ab" * 32, "/models/flowers/2")
PLAN = Plan(2, (ENTRY,), {"flowers": 2})
SEAL = f"flowers/2/{ENTRY.sha256}"


class Line:
    """A control socket that keeps the letters that it is sent."""

    def __init__(self) -> None:
        self._letters = control.Letters()
        self.letters: list[tuple[bytes, bytes]] = []

    def send(self, message: bytes) -> int:
        """Take a message."""
        letter = self._letters.add(message)
        if letter is not None:
            self.letters.append(letter)
        return len(message)


class Team:
    """Two workers and the ballot over them."""

    def __init__(self, *, most_s: float = 60.0, is_strict: bool = True) -> None:
        self.workers: dict[int, Worker] = {}
        self.told: list[Fault | None] = []
        self.ballot = Ballot(self.workers, most_s=most_s, is_strict=is_strict)
        for slot in (0, 1):
            self.join(slot, pid=slot + 1)

    def join(self, slot: int, pid: int) -> Worker:
        """Have a worker get ready."""
        worker = Worker(slot, pid, cast(socket.socket, Line()), 0.0, is_ready=True)
        self.workers[slot] = worker
        self.ballot.on_ready(worker)
        return worker

    def die(self, slot: int) -> None:
        """Have a worker die; another one starts in its place."""
        self.ballot.on_end(self.workers.pop(slot))
        self.workers[slot] = Worker(slot, 99, cast(socket.socket, Line()), 0.0)

    def got(self, slot: int) -> list[bytes]:
        """Return the kinds of letters that a worker got."""
        return [kind for kind, _ in cast(Line, self.workers[slot].control).letters]

    def answer(self, slot: int, kind: bytes, content: object = None, number: int = 1) -> None:
        """Have a worker answer."""
        body = b"%d" % number if kind == control.COMMITTED else b"%d %s" % (number, orjson.dumps(content))
        self.ballot.on_letter(self.workers[slot], kind, body)

    def load(self) -> None:
        """Begin."""
        self.ballot.load(PLAN, self.told.append)

    def loaded(self, slot: int, bits: str = "00") -> None:
        """Have a worker say that it has loaded."""
        self.answer(slot, control.LOADED, {SEAL: bits})


def test_all_load_and_then_all_swap() -> None:
    """Nobody is asked to swap before everybody has loaded, and the swap is over when everybody has swapped."""
    team = Team()
    team.load()
    team.loaded(0)
    assert team.told == []
    team.loaded(1)
    assert team.told == [None]
    team.ballot.commit(team.told.append)
    assert [team.got(slot) for slot in (0, 1)] == [[control.LOAD, control.COMMIT]] * 2
    team.answer(0, control.COMMITTED)
    assert team.told == [None]
    team.answer(1, control.COMMITTED)
    assert team.told == [None, None]


def test_one_failure_keeps_all_from_swapping() -> None:
    """The first worker that cannot load ends the attempt for all; what others say of it later is dropped."""
    team = Team()
    team.load()
    team.answer(0, control.FAILED, {"reason": "no room", "entry": list(ENTRY)})
    assert team.told == [Fault("no room", ENTRY)]
    assert team.got(1) == [control.LOAD, control.ABORT]
    team.loaded(1)
    assert team.told == [Fault("no room", ENTRY)]


@pytest.mark.parametrize(("policy", "end"), [("require", Fault(DIFFERS, ENTRY)), ("report", None)])
def test_bits_must_be_equal(policy: str, end: Fault | None) -> None:
    """Workers that load the same seal to other bits are refused, unless bits are only reported."""
    team = Team(is_strict=policy == "require")
    team.load()
    team.loaded(0, "00")
    team.loaded(1, "01")
    assert team.told == [end]


def test_a_worker_that_dies_while_it_loads_is_replaced_in_the_ballot() -> None:
    """Its answer counts no more, and the one that takes its place is asked before anybody swaps."""
    team = Team()
    team.load()
    team.loaded(0)
    team.die(0)
    team.loaded(1)
    team.ballot.look()
    assert team.told == []
    team.join(0, pid=7)
    assert team.got(0) == [control.LOAD]
    team.loaded(0)
    assert team.told == [None]


def test_a_bundle_that_kills_workers_is_given_up() -> None:
    """After a second death the attempt ends, as it does when nobody answers in time or the service stops."""
    team = Team()
    team.load()
    for pid in range(MOST_DEATHS):
        team.die(0)
        team.ballot.look()
        team.join(0, pid=7 + pid)
    assert [fault.reason for fault in team.told if fault] == ["2 workers ended while they loaded it"]
    late = Team(most_s=-1.0)
    late.load()
    late.ballot.look()
    stopping = Team()
    stopping.load()
    stopping.ballot.stop()
    assert [bool(one.told[0]) for one in (late, stopping)] == [True, True]


def test_a_worker_that_dies_while_it_swaps_is_not_waited_for() -> None:
    """The one that takes its place starts with what is committed, so the swap is over without it."""
    team = Team()
    team.load()
    team.loaded(0)
    team.loaded(1)
    team.ballot.commit(team.told.append)
    team.answer(0, control.COMMITTED)
    team.die(1)
    assert team.told == [None, None]


@pytest.mark.parametrize("size", [0, 1, 4094, 4095, 4096, 100_000])
def test_letters_arrive_whole(size: int) -> None:
    """A letter of any length is sent in messages that fit, and joined again."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    messages = list(control.parts(control.LOAD, body))
    assert max(map(len, messages)) <= control.MESSAGE_BYTES
    letters = control.Letters()
    joined = [letter for message in messages if (letter := letters.add(message)) is not None]
    assert joined == [(control.LOAD, body)]
