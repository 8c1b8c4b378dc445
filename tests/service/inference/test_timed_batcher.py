"""Runs of observed requests: their times, how many shared them, and the call for runs that traced ones shared."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from batchproof.service.errors import EngineError, ServiceError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference import async_run
from batchproof.service.inference.admission import FIRST_ROW_S, Admission, Ticket
from batchproof.service.inference.timed_batcher import TimedBatcher
from batchproof.service.runtime.tracing.context import TraceContext
from batchproof.service.runtime.tracing.observation import Observation, Run

RUN_S = 0.002


class Desk:
    """A queue whose runs take at least RUN_S each, or fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.shared: list[tuple[Run, Sequence[TraceContext]]] = []
        self.failures: list[EngineError] = []
        self.batcher = TimedBatcher(
            self,
            Admission(10_000),
            ThreadPoolExecutor(1),
            inline_s=8.5 * FIRST_ROW_S,
            on_failure=self.failures.append,
        )
        self.batcher.on_shared = lambda run, contexts: self.shared.append((run, contexts))

    def run(self, requests: Sequence[Arrays]) -> list[Outputs]:
        """Take time, and double."""
        time.sleep(RUN_S)
        if self.fails:
            raise EngineError("broken")
        return [{"value": arrays.numeric * 2} for arrays in requests if arrays.numeric is not None]

    def submit(self, rows: int, seen: Observation | None, reply: Callable[..., Any] = lambda *_: None) -> Ticket:
        """Submit rows; with `seen` their run is noted."""
        ticket = self.batcher.submit(Arrays(np.zeros((rows, 1)), None), rows, 1000.0, reply)
        if seen is not None:
            self.batcher.observed[ticket] = seen
        return ticket


def traced(trace_id: int) -> Observation:
    """Return the observation of a request that is traced."""
    return Observation(TraceContext(trace_id, trace_id + 1))


@pytest.mark.parametrize("rows", [2, 50], ids=["on the loop", "on the thread"])
@pytest.mark.parametrize("fails", [False, True], ids=["good", "failed"])
def test_a_run_is_noted_for_each_observed_request(rows: int, *, fails: bool) -> None:
    """When replies are called, each observed ticket has one run, with its time, its requests and rows, and its failure."""

    async def scene() -> None:
        desk, seen = Desk(fails=fails), [Observation(None), traced(7), None, traced(9)]
        noted: list[Run | None] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if rows > 8:
            desk.submit(rows, None)  # holds the thread, so that the others wait together
        for place, one in enumerate(seen):

            def reply(
                outputs: Outputs | None, error: ServiceError | None, *, place: int = place, one: Any = one
            ) -> None:
                assert (error is not None) == fails
                noted.append(one and one.run)
                if place == len(seen) - 1:
                    done.set_result(None)

            desk.submit(rows, one, reply)
        await done
        run = noted[0]
        assert noted == [run, run, None, run]
        assert run is not None
        assert (run.requests, run.rows, run.has_failed) == (4, 4 * rows, fails)
        assert RUN_S <= run.seconds <= time.monotonic() - run.started_s
        assert [(shared, [context.trace_id for context in contexts]) for shared, contexts in desk.shared] == [
            (run, [7, 9])
        ]

    asyncio.run(scene())


@pytest.mark.parametrize("seen", [None, Observation(None), traced(5)], ids=["not observed", "logged", "traced"])
def test_only_shared_runs_of_traced_requests_are_told(seen: Observation | None) -> None:
    """A run of one request, or one whose requests are not traced, is called for nobody."""

    async def scene() -> None:
        desk = Desk()
        await_one = asyncio.get_running_loop().create_future()
        desk.submit(2, seen, lambda *_: await_one.set_result(None))
        await await_one
        pair = asyncio.get_running_loop().create_future()
        desk.submit(2, Observation(None))
        desk.submit(2, None, lambda *_: pair.set_result(None))
        await pair
        assert desk.shared == []
        assert seen is None or seen.run is not None

    asyncio.run(scene())


@pytest.mark.parametrize("fails", [False, True], ids=["good", "failed"])
def test_tasks_note_how_long_they_waited_and_ran(*, fails: bool) -> None:
    """Rows of a task add to the times of their request, and nothing is kept of them; each run is one stage."""

    async def scene() -> None:
        desk, seen = Desk(fails=fails), traced(3)
        for _ in range(2):
            try:
                await async_run.run(desk.batcher, Arrays(np.zeros((2, 1)), None), 2, 1000.0, seen=seen)
            except ServiceError:
                assert fails
        assert [stage.name for stage in seen.stages] == ["queue", "run"] * 2
        assert seen.run_s == sum(stage.run.seconds for stage in seen.stages if stage.run) >= 2 * RUN_S
        assert desk.batcher.observed == {}

    asyncio.run(scene())


def test_a_cancelled_task_leaves_nothing() -> None:
    """A task that is cancelled while its rows wait has a stage of waiting, and no ticket is kept."""

    async def scene() -> None:
        desk, seen = Desk(), traced(3)
        task = asyncio.create_task(async_run.run(desk.batcher, Arrays(np.zeros((2, 1)), None), 2, 1000.0, seen=seen))
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()
        assert desk.batcher.observed == {}
        assert [stage.name for stage in seen.stages][:1] == ["queue"]

    asyncio.run(scene())
