"""What asks for a thread goes on where the system starts none."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest

from batchproof.service.runtime.threads import NoThreadError, do_meanwhile, in_thread


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have the system start no thread, until the test undoes it."""

    def start(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    return monkeypatch


def test_work_is_done_in_a_thread_with_its_arguments() -> None:
    """The future has what the work returned or raised."""

    async def scene() -> None:
        assert await in_thread(None, divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await in_thread(None, divmod, 7, 0)

    asyncio.run(scene())


def test_without_threads_the_work_is_never_done(no_threads: pytest.MonkeyPatch) -> None:
    """The future fails at once, and a thread that can be started later does not take the work up."""
    done: list[int] = []

    async def scene() -> None:
        with ThreadPoolExecutor(1) as executor:
            with pytest.raises(NoThreadError, match="no thread can be started: can't start new thread"):
                await in_thread(executor, done.append, 1)
            no_threads.undo()
            await in_thread(executor, done.append, 2)

    asyncio.run(scene())
    assert done == [2]


def test_what_nobody_waits_for_is_left_undone_in_one_line(
    no_threads: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The event names what was left undone; an error of the work itself goes to the loop's handler."""
    raised: list[Any] = []

    async def scene() -> None:
        has_raised = asyncio.Event()

        def note(_: object, context: dict[str, Any]) -> None:
            raised.append(context["exception"])
            has_raised.set()

        asyncio.get_running_loop().set_exception_handler(note)
        do_meanwhile("keys are read again", int)
        await asyncio.sleep(0)
        no_threads.undo()
        do_meanwhile("keys are read again", lambda: int("x"))
        await asyncio.wait_for(has_raised.wait(), 20)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())
    fields = {"what": "keys are read again", "reason": "no thread can be started: can't start new thread"}
    assert [(record.message, record.__dict__["fields"]) for record in caplog.records] == [("left_undone", fields)]
    assert [type(error) for error in raised] == [ValueError]
