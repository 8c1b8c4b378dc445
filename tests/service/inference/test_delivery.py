"""One reply never harms another: replies that raise, runs that fail in any way, callers that leave at any moment."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproof.service.errors import EngineError, ServiceError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference import async_run
from batchproof.service.inference.admission import FIRST_ROW_S, Admission
from batchproof.service.inference.batcher import Batcher


class ReplyError(Exception):
    """What a reply raises in these tests."""


def echo(requests: Sequence[Arrays]) -> Sequence[Outputs]:
    """Return the rows."""
    return [{"value": arrays.numeric} for arrays in requests if arrays.numeric is not None]


class Scene:
    """A batcher that echoes its rows, and what the event loop was asked to log."""

    def __init__(self, run: Callable[[Sequence[Arrays]], Sequence[Outputs]] | None = None) -> None:
        self.run = run or echo
        self.admission = Admission(10_000)
        self.now_s = 0.0
        self.executor = ThreadPoolExecutor(1)
        self.failures: list[EngineError] = []
        self.batcher = Batcher(
            self,
            self.admission,
            self.executor,
            inline_s=8.5 * FIRST_ROW_S,
            on_failure=self.failures.append,
            clock=lambda: self.now_s,
        )
        self.unforeseen: list[BaseException] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.unforeseen.append(context["exception"]))

    def submit(self, number: int, rows: int, *, raises: bool, timeout_s: float = 30.0) -> "asyncio.Future[Any]":
        """Submit `rows` rows of the value `number`; the future gets what the reply was called with."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def reply(outputs: Outputs | None, error: ServiceError | None) -> None:
            answered.set_result(error if outputs is None else outputs["value"].reshape(-1).tolist())
            if raises:
                raise ReplyError(number)

        self.batcher.submit(Arrays(np.full((rows, 1), float(number)), None), rows, timeout_s, reply)
        return answered


async def settle() -> None:
    """Let everything that is scheduled happen."""
    for _ in range(10):
        await asyncio.sleep(0)


CALLERS = st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(callers=CALLERS)
def test_a_reply_that_raises_keeps_no_other_from_its_caller(callers: list[tuple[int, bool, bool]]) -> None:
    """Whichever replies raise, on the loop or the thread, in time or late: each ticket has one reply, and is counted."""

    async def scene() -> None:
        stage = Scene()
        asked = [
            (number, rows, is_late, stage.submit(number, rows, raises=raises, timeout_s=1.0 if is_late else 30.0))
            for number, (rows, raises, is_late) in enumerate(callers)
        ]
        stage.now_s = 2.0
        for number, rows, is_late, answered in asked:
            answer = await asyncio.wait_for(answered, 30)
            assert answer == [float(number)] * rows or (is_late and answer.status == 504)
        await settle()
        raising = [number for number, (_, raises, _) in enumerate(callers) if raises]
        assert sorted(error.args[0] for error in stage.unforeseen) == raising
        assert stage.batcher.flow.failed_replies == len(raising)
        assert stage.admission.queued_rows == 0
        stage.executor.shutdown()

    asyncio.run(scene())


def broken(error: BaseException) -> Callable[[Sequence[Arrays]], Sequence[Outputs]]:
    """Return a run that raises."""

    def run(requests: Sequence[Arrays]) -> Sequence[Outputs]:
        raise error

    return run


FAULTS = {
    "an engine's": broken(EngineError("broken")),
    "a program's": broken(ValueError("shapes differ")),
    "the memory's": broken(MemoryError()),
    "too few outputs": lambda requests: [],
}


@pytest.mark.parametrize("rows", [1, 20], ids=["on the loop", "on the thread"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_fails_in_any_way_answers_its_callers(fault: str, rows: int) -> None:
    """Every caller of a run that raised gets 500 once, and the next run is as good as any; an unforeseen error is logged."""

    async def scene() -> None:
        stage = Scene(FAULTS[fault])
        answers = [stage.submit(number, rows, raises=False) for number in range(2)]
        for answer in answers:
            assert (await asyncio.wait_for(answer, 30)).status == 500
        await settle()
        assert stage.failures
        assert len(stage.unforeseen) == (0 if fault == "an engine's" else len(stage.failures))
        stage.run = echo
        assert await asyncio.wait_for(stage.submit(7, rows, raises=False), 30) == [7.0] * rows
        assert stage.admission.queued_rows == 0
        stage.executor.shutdown()

    asyncio.run(scene())


def test_a_thread_that_cannot_start_is_a_failed_run() -> None:
    """Where the process may start no thread, large requests get 500, none waits for ever, and the caller's submit holds."""

    async def scene() -> None:
        stage = Scene()
        stage.executor.shutdown()  # from now on it raises RuntimeError, as one does that may start no thread
        answers = [stage.submit(number, 20, raises=False) for number in range(2)]
        for answer in answers:
            assert (await asyncio.wait_for(answer, 30)).status == 500
        assert await asyncio.wait_for(stage.submit(7, 1, raises=False), 30) == [7.0]
        assert stage.admission.queued_rows == 0

    asyncio.run(scene())


@settings(max_examples=100, deadline=None)
@given(leaving=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 6)), max_size=8), rows=st.sampled_from([1, 20]))
def test_tasks_cancelled_at_any_turn_of_the_loop_leave_no_error(leaving: list[tuple[int, int]], rows: int) -> None:
    """Tasks that await rows and are cancelled in any turn, that of their answer included: the others get theirs."""

    async def scene() -> None:
        stage = Scene()
        tasks = [
            asyncio.create_task(
                async_run.run(stage.batcher, Arrays(np.full((rows, 1), float(number)), None), rows, 30.0)
            )
            for number in range(12)
        ]
        for turn in range(7):
            for number, when in leaving:
                if when == turn:
                    tasks[number].cancel()
            await asyncio.sleep(0)
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        gone = {number for number, _ in leaving}
        for number, result in enumerate(results):
            if isinstance(result, asyncio.CancelledError):
                assert number in gone
            else:
                assert result["value"].reshape(-1).tolist() == [float(number)] * rows
        await asyncio.get_running_loop().run_in_executor(stage.executor, bool)
        await settle()
        assert not stage.unforeseen
        assert stage.admission.queued_rows == 0
        stage.executor.shutdown()

    asyncio.run(scene())


def test_a_caller_that_is_cancelled_in_the_turn_of_its_answer_is_passed_over() -> None:
    """A future that is cancelled before its reply, while its task has not run yet, raises nothing in the batch."""

    async def scene() -> None:
        stage = Scene()
        task = asyncio.create_task(async_run.run(stage.batcher, Arrays(np.zeros((1, 1)), None), 1, 30.0))
        await asyncio.sleep(0)  # submitted; the run is the next callback
        asyncio.get_running_loop().call_soon(lambda: None)
        task.cancel()
        stayed = stage.submit(5, 1, raises=False)
        stage.batcher._run_small()
        assert await asyncio.wait_for(stayed, 30) == [5.0]
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not stage.unforeseen
        assert stage.batcher.flow.failed_replies == 0
        assert stage.admission.queued_rows == 0

    asyncio.run(scene())


def test_a_task_gets_the_refusal_of_its_rows() -> None:
    """A task that awaits rows whose run failed gets the error itself, once."""

    async def scene() -> None:
        stage = Scene(broken(EngineError("broken")))
        with pytest.raises(ServiceError) as caught:
            await async_run.run(stage.batcher, Arrays(np.zeros((1, 1)), None), 1, 30.0)
        assert caught.value.status == 500
        stage.executor.shutdown()

    asyncio.run(scene())


def test_patience_waits_for_room_and_for_nothing_else() -> None:
    """A full queue is asked again until it has room; every other refusal reaches the caller at once."""

    async def scene() -> None:
        stage = Scene()
        rows = Arrays(np.full((20, 1), 7.0), None)
        full = [stage.submit(number, 5_000, raises=False) for number in range(2)]  # the admission's 10 000 rows
        with pytest.raises(ServiceError) as caught:
            await async_run.run(stage.batcher, rows, 20, 30.0)
        assert caught.value.status == 429
        answer = await asyncio.wait_for(async_run.run_patiently(stage.batcher, rows, 20, 30.0), 30)
        assert answer["value"].reshape(-1).tolist() == [7.0] * 20
        assert all(answered.done() for answered in full)
        stage.batcher.refuse(ServiceError(503, "withdrawn", "No."))
        with pytest.raises(ServiceError, match="No"):
            await asyncio.wait_for(async_run.run_patiently(stage.batcher, rows, 20, 30.0), 30)
        stage.executor.shutdown()

    asyncio.run(scene())
