"""Coalescing, bounds, deadlines and cancellation, on a real event loop with a runner that can be held."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproof.service.errors import EngineError, ServiceError, engine_failed
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference import async_run
from batchproof.service.inference.admission import FIRST_ROW_S, Admission, Ticket
from batchproof.service.inference.batcher import BATCH_ROWS, LOOP_BATCH_S, STUCK_FACTOR, STUCK_S, Batcher


class Doubles:
    """A runner that doubles every number and remembers the sizes it was given; `gate` holds it, `fails` breaks it."""

    def __init__(self) -> None:
        self.sizes: list[list[int]] = []
        self.threads: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.fails = False

    def run(self, requests: Sequence[Arrays]) -> list[Outputs]:
        """Wait at the gate, then double."""
        self.entered.set()
        assert self.gate.wait(30), "the test lets every run go"
        self.threads.append(threading.get_ident())
        self.sizes.append([len(arrays.numeric) for arrays in requests if arrays.numeric is not None])
        if self.fails:
            raise EngineError("broken")
        return [{"value": arrays.numeric * 2} for arrays in requests if arrays.numeric is not None]


class Desk:
    """A batcher with its parts and a clock that the test moves."""

    def __init__(self, limit_rows: int = 10_000, inline_rows: int = 8, wait_s: float = 0.0) -> None:
        self.runner = Doubles()
        self.admission = Admission(limit_rows)
        self.now_s = 0.0
        self.failures: list[EngineError] = []
        self.ways_given: list[int] = []  # after how many runs, each time
        self.executor = ThreadPoolExecutor(1)
        self.batcher = Batcher(
            self.runner,
            self.admission,
            self.executor,
            inline_s=(inline_rows + 0.5) * FIRST_ROW_S,
            wait_s=wait_s,
            on_failure=self.failures.append,
            give_way=lambda: self.ways_given.append(len(self.runner.sizes)),
            clock=lambda: self.now_s,
        )

    def learn(self, row_s: float) -> None:
        """Let the batcher have seen rows that take so long."""
        self.batcher.pace.ran(10**6, 10**6 * row_s)

    def ask(self, values: Sequence[float], timeout_s: float = 1.0) -> tuple[Ticket, "asyncio.Future[Any]"]:
        """Submit one column of rows; the future gets the outputs or the error."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        numeric = np.array(values, dtype=np.float64).reshape(-1, 1)
        ticket = self.batcher.submit(
            Arrays(numeric, None), len(values), timeout_s, lambda outputs, error: reply.set_result(outputs or error)
        )
        return ticket, reply


async def turn() -> None:
    """Let the loop make one turn."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_what_is_ready_together_runs_together() -> None:
    """Requests of one turn of the loop are one run, and each gets its own rows back."""

    async def scene() -> None:
        desk = Desk()
        replies = [desk.ask([float(number)] * (number % 3))[1] for number in range(5)]
        for number, reply in enumerate(replies):
            assert (await reply)["value"].tolist() == [[2.0 * number]] * (number % 3)
        assert desk.runner.sizes == [[0, 1, 2, 0, 1]]
        assert desk.admission.queued_rows == 0

    asyncio.run(scene())


def test_a_recorder_may_postpone_a_run() -> None:
    """Requests that come while a recorder postpones the run of the first one join it; later ones are not kept."""

    class Postponing:
        def __init__(self) -> None:
            self.calls: list[Callable[[], None]] = []
            self.is_waiting = True

        def record(self, tickets: Sequence[Ticket], outputs: Sequence[Outputs]) -> None:
            """Take nothing."""

        def postpone(self, run: Callable[[], None]) -> bool:
            self.calls.append(run)
            return self.is_waiting

    async def scene() -> None:
        desk, recorder = Desk(), Postponing()
        desk.batcher._recorder = recorder
        first = desk.ask([1.0])[1]
        await turn()
        second = desk.ask([2.0])[1]
        await turn()
        assert desk.runner.sizes == []
        (run,) = recorder.calls
        recorder.is_waiting = False
        run()
        await asyncio.gather(first, second, desk.ask([3.0])[1])
        assert desk.runner.sizes == [[1, 1], [1]]

    asyncio.run(scene())


def test_large_requests_leave_the_loop_free() -> None:
    """While large rows run on the thread, small ones are answered, and large ones that arrive form the next run."""

    async def scene() -> None:
        desk = Desk()
        desk.runner.gate.clear()
        _, first = desk.ask(range(9))
        await asyncio.to_thread(desk.runner.entered.wait, 30)
        waiting = [desk.ask(range(20))[1] for _ in range(2)]
        desk.runner.gate.set()
        _, small = desk.ask([1.0])
        await asyncio.gather(first, small, *waiting)
        assert sorted(desk.runner.sizes, key=len) == [[9], [1], [20, 20]] or [20, 20] in desk.runner.sizes

    asyncio.run(scene())


def test_others_get_the_core_between_runs_of_the_loop() -> None:
    """Way is given once after each run on the loop, when its callers have their answers; the thread needs none."""

    async def scene() -> None:
        desk = Desk()
        await desk.ask(range(9))[1]
        for _ in range(2):
            replies = [desk.ask([float(number)])[1] for number in range(3)]
            await turn()
            assert all(reply.done() for reply in replies)
        assert desk.runner.sizes == [[9], [1, 1, 1], [1, 1, 1]]
        assert desk.ways_given == [2, 3]

    asyncio.run(scene())


def test_full_is_said_at_once() -> None:
    """A request that finds no place gets 429 with Retry-After immediately and takes nothing."""

    async def scene() -> None:
        desk = Desk(limit_rows=4)
        _, first = desk.ask(range(3))
        with pytest.raises(ServiceError) as refused:
            desk.ask(range(2))
        assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
        _, fits = desk.ask([1.0])
        await asyncio.gather(first, fits)
        _, alone = desk.ask(range(8))  # larger than the limit, but nothing waits
        await alone

    asyncio.run(scene())


def test_late_rows_never_run() -> None:
    """A request whose deadline passed is answered 504 and costs no compute."""

    async def scene() -> None:
        desk = Desk()
        _, late = desk.ask([1.0], timeout_s=1.0)
        _, in_time = desk.ask([2.0], timeout_s=3.0)
        desk.now_s = 2.0
        assert (await late).status == 504
        assert (await in_time)["value"].tolist() == [[4.0]]
        assert desk.runner.sizes == [[1]]
        assert desk.admission.queued_rows == 0

    asyncio.run(scene())


def test_late_rows_behind_a_long_run_are_told_in_time() -> None:
    """A large request that waits behind a long run gets its 504 when its deadline passes, not when the run ends."""

    async def scene() -> None:
        desk = Desk()
        desk.runner.gate.clear()
        _, first = desk.ask(range(9))
        _, behind = desk.ask(range(9), timeout_s=0.01)
        desk.now_s = 0.02
        assert (await asyncio.wait_for(behind, 30)).status == 504
        desk.runner.gate.set()
        assert (await first)["value"].shape == (9, 1)
        assert desk.runner.sizes == [[9]]

    asyncio.run(scene())


@pytest.mark.parametrize("rows", [1, 20])
def test_a_failed_run_fails_its_rows_alone(rows: int) -> None:
    """Every caller of a failed run gets the same fixed error, and the next run is answered."""

    async def scene() -> None:
        desk = Desk()
        desk.runner.fails = True
        replies = [desk.ask([1.0] * rows)[1] for _ in range(2)]
        for reply in replies:
            assert (await reply).as_json("x") == engine_failed().as_json("x")
        desk.runner.fails = False
        assert (await desk.ask([1.0])[1])["value"].tolist() == [[2.0]]
        assert desk.failures
        assert desk.admission.queued_rows == 0

    asyncio.run(scene())


def test_a_batch_is_bounded() -> None:
    """No run is handed more than BATCH_ROWS rows unless one request alone is larger."""

    async def scene() -> None:
        desk = Desk(limit_rows=10**9)
        desk.learn(1e-9)
        rows = BATCH_ROWS // 2 - 1
        await asyncio.gather(*[desk.ask([0.0] * rows)[1] for _ in range(5)])
        assert [sum(sizes) for sizes in desk.runner.sizes] == [2 * rows, 2 * rows, rows]

    asyncio.run(scene())


def test_a_batch_is_bounded_in_time() -> None:
    """What the loop runs in one turn takes LOOP_BATCH_S as far as is known, however many rows wait."""

    async def scene() -> None:
        desk = Desk(inline_rows=1000)
        desk.learn(LOOP_BATCH_S / 4)
        await asyncio.gather(*[desk.ask([0.0])[1] for _ in range(10)])
        assert [len(sizes) for sizes in desk.runner.sizes] == [4, 4, 2]

    asyncio.run(scene())


def test_dear_rows_leave_the_loop() -> None:
    """Once a model's rows were seen to take long, a single one runs on the thread."""

    async def scene() -> None:
        desk = Desk()
        await desk.ask([1.0])[1]
        assert desk.runner.threads[-1] == threading.get_ident()
        desk.learn(1.0)
        await desk.ask([1.0])[1]
        assert desk.runner.threads[-1] != threading.get_ident()

    asyncio.run(scene())


def test_a_wait_that_would_be_too_long_is_refused_at_once() -> None:
    """When the rows ahead take more than half of a deadline the answer is 429, and Retry-After is their time."""

    async def scene() -> None:
        desk = Desk()
        desk.learn(1.0)
        desk.runner.gate.clear()
        admitted = [desk.ask([1.0] * rows, timeout_s=6.1)[1] for rows in (1, 2)]
        with pytest.raises(ServiceError, match=r"About 3 s of work is waiting.* within 5 s") as refused:
            desk.ask([1.0], timeout_s=5.0)
        assert (refused.value.status, refused.value.code) == (429, "overloaded")
        assert refused.value.retry_after_s in {3, 4}  # the estimate has the first guess in it
        with pytest.raises(ServiceError, match="About 3 s"):
            desk.batcher.check_room(1, 5.0)
        patient = desk.ask([1.0], timeout_s=60.0)[1]
        desk.runner.gate.set()
        await asyncio.gather(*admitted, patient)
        await desk.ask([1.0], timeout_s=0.001)[1]  # nothing waits: whatever the estimate, it is tried

    asyncio.run(scene())


def test_a_long_run_on_the_thread_refuses_nobody_on_the_loop() -> None:
    """Small requests wait for small ones alone."""

    async def scene() -> None:
        desk = Desk(limit_rows=20_000)
        desk.runner.gate.clear()
        _, long = desk.ask(range(10_000), timeout_s=10.0)
        desk.batcher.check_room(1, 0.1)
        with pytest.raises(ServiceError, match="is waiting"):
            desk.batcher.check_room(100, 0.1)
        desk.runner.gate.set()
        await asyncio.gather(long, desk.ask([1.0], timeout_s=0.1)[1])

    asyncio.run(scene())


def test_drain_waits_for_admitted_rows() -> None:
    """After drain nothing is admitted, and its callback comes when the last admitted row is answered."""

    async def scene() -> None:
        desk = Desk()
        _, admitted = desk.ask([1.0])
        empty = asyncio.Event()
        desk.admission.drain(empty.set)
        with pytest.raises(ServiceError, match="shutting down"):
            desk.ask([1.0])
        assert not empty.is_set()
        await admitted
        assert empty.is_set()

    asyncio.run(scene())


def test_an_idle_drain_is_over_at_once() -> None:
    """Where nothing is admitted the callback of a drain comes at once."""
    admission, calls = Admission(10), []
    admission.drain(lambda: calls.append("empty"))

    assert calls == ["empty"]


def test_a_withdrawn_model_refuses_before_decoding() -> None:
    """A batcher that refuses says so when it is asked for room, before a body is decoded."""
    desk = Desk()
    desk.batcher.refuse(ServiceError(503, "withdrawn", "It was withdrawn."))

    with pytest.raises(ServiceError, match="It was withdrawn"):
        desk.batcher.check_room(3, 1.0)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 12)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("turn"), st.integers(0, 0)),
        st.tuples(st.just("hold"), st.integers(0, 1)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(actions=ACTIONS)
def test_cancelling_anyone_hurts_nobody(actions: list[tuple[str, int]]) -> None:
    """Whoever goes away at whatever moment, every other caller gets exactly its own rows, and all places are freed."""

    async def scene() -> None:
        desk = Desk()
        callers: list[tuple[list[float], Ticket, asyncio.Future[Any]]] = []
        gone: set[int] = set()
        for action, number in actions:
            if action == "ask":
                values = [100.0 * len(callers) + row for row in range(number)]
                callers.append((values, *desk.ask(values)))
            elif action == "cancel" and number < len(callers) and not callers[number][2].done():
                desk.batcher.cancel(callers[number][1])
                gone.add(number)
            elif action == "turn" and desk.runner.gate.is_set():
                await turn()
            elif action == "hold" and not any(len(sizes) for sizes, _, _ in callers if len(sizes) <= 8):
                (desk.runner.gate.set if number else desk.runner.gate.clear)()
        desk.runner.gate.set()
        for number, (values, _, reply) in enumerate(callers):
            if number not in gone:
                assert (await asyncio.wait_for(reply, 30))["value"].reshape(-1).tolist() == [2 * v for v in values]
        await asyncio.get_running_loop().run_in_executor(desk.executor, bool)  # behind whatever still runs
        await turn()
        assert desk.admission.queued_rows == 0
        assert not any(callers[number][2].done() for number in gone)

    asyncio.run(scene())


def test_saturated_rows_are_counted() -> None:
    """Rows that an exact graph flags are in the counts of their model; a graph that flags nothing counts none."""

    class Flags(Doubles):
        def run(self, requests: Sequence[Arrays]) -> list[Outputs]:
            outputs = super().run(requests)
            return [{**own, "saturated": own["value"] > 4} for own in outputs]

    async def scene() -> None:
        desk = Desk()
        await desk.ask([1.0, 9.0])[1]
        assert desk.batcher.flow.saturated_rows == 0
        desk.batcher._runner = Flags()
        await asyncio.gather(desk.ask([1.0, 9.0, 9.0])[1], desk.ask([5.0])[1])
        assert desk.batcher.flow.saturated_rows == 3

    asyncio.run(scene())


def test_a_run_that_may_never_end_is_seen() -> None:
    """A run on the thread that takes far longer than estimated makes the batcher stuck, until it ends after all."""

    async def scene() -> None:
        desk = Desk()
        desk.runner.gate.clear()
        _, large = desk.ask(range(9))
        desk.now_s = STUCK_S
        assert not desk.batcher.is_stuck
        desk.now_s = STUCK_S + 1
        assert desk.batcher.is_stuck
        desk.runner.gate.set()
        await large
        assert not desk.batcher.is_stuck

    asyncio.run(scene())


def test_a_run_that_was_estimated_to_be_long_is_not_stuck() -> None:
    """What takes long is given as many times longer: a slow model is no fault."""

    async def scene() -> None:
        desk = Desk()
        desk.learn(1.0)
        desk.runner.gate.clear()
        _, large = desk.ask(range(9), timeout_s=1000.0)
        desk.now_s = STUCK_S + 1
        assert not desk.batcher.is_stuck
        desk.now_s = 9 * STUCK_FACTOR + 1
        assert desk.batcher.is_stuck
        desk.runner.gate.set()
        await large

    asyncio.run(scene())


def test_a_wait_joins_requests_of_several_turns() -> None:
    """With a time to wait, requests that arrive within it run together, though the loop turned between them."""

    async def scene() -> None:
        desk = Desk(wait_s=0.05)
        _, first = desk.ask([1.0])
        await turn()
        assert not desk.runner.sizes
        _, second = desk.ask([2.0, 3.0])
        await asyncio.wait_for(asyncio.gather(first, second), 30)
        assert desk.runner.sizes == [[1, 2]]

    asyncio.run(scene())


class Shadow:
    """Looks at every second batch, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], list[float]]] = []
        self._batches = 0

    def is_due(self) -> bool:
        """Return whether this batch is one to look at."""
        self._batches += 1
        return self._batches % 2 == 0

    def look(self, requests: Sequence[Arrays], outputs: Sequence[Outputs]) -> None:
        """Remember the sizes and the outputs."""
        sizes = [len(arrays.numeric) for arrays in requests if arrays.numeric is not None]
        self.seen.append((sizes, np.concatenate([own["value"] for own in outputs])[:, 0].tolist()))


def test_a_shadow_sees_batches_after_their_callers_were_answered() -> None:
    """What compares another version gets the rows and outputs of the batches that it wants, once their callers have them."""

    async def scene() -> None:
        desk, shadow = Desk(), Shadow()
        desk.batcher.shadow = shadow  # type: ignore[assignment]
        for number in (1.0, 2.0, 3.0, 4.0):
            _, reply = desk.ask([number])
            assert (await reply)["value"].tolist() == [[2 * number]]
        assert shadow.seen == [([1], [4.0]), ([1], [8.0])]

    asyncio.run(scene())


class Recorded:
    """A recorder whose answers wait until the test lets them go."""

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self.waiting: list[Callable[[ServiceError | None], None]] = []

    def postpone(self, _: Callable[[], None]) -> bool:
        """Let every run begin at once."""
        return False

    def record(self, batch: Sequence[Ticket], outputs: Sequence[Outputs]) -> None:
        """Keep the notes, and have each answer wait."""
        assert len(batch) == len(outputs)
        for ticket in batch:
            self.notes.append(ticket.note)
            ticket.written = self

    def then(self, call: Callable[[ServiceError | None], None]) -> None:
        """Let `call` wait."""
        self.waiting.append(call)


@pytest.mark.parametrize("error", [None, ServiceError(503, "journal_full", "The journal is full.")])
def test_a_recorded_answer_waits_until_it_is_written(error: ServiceError | None) -> None:
    """Rows with a note are recorded after their run, and who awaits them gets the outputs, or why they may not leave."""
    recorder = Recorded()

    async def scenario() -> Any:
        desk = Desk()
        desk.batcher._recorder = recorder
        arrays = Arrays(np.array([[1.0], [2.0]]), None)
        waiting = asyncio.ensure_future(async_run.run(desk.batcher, arrays, 2, 1.0, note="a note"))
        while not recorder.waiting:
            await turn()
        assert not waiting.done()
        recorder.waiting[0](error)
        desk.executor.shutdown()
        return await waiting

    if error is None:
        assert asyncio.run(scenario())["value"].tolist() == [[2.0], [4.0]]
    else:
        with pytest.raises(ServiceError, match="journal is full"):
            asyncio.run(scenario())
    assert recorder.notes == ["a note"]
