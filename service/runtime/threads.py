"""Work in threads, on a system that may start no further one: then the work is left undone, and what asked for it goes on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

from batchproof.service.runtime.logs import event

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class NoThreadError(Exception):
    """The system starts no further thread."""


def in_thread(
    executor: Executor | None,
    work: Callable[Arguments, Result],
    *arguments: Arguments.args,
    **named: Arguments.kwargs,
) -> "asyncio.Future[Result]":
    """Do `work` in a thread of `executor`, None for the loop's own; the future fails with NoThreadError where there is none.

    `run_in_executor` raises instead, and keeps the work for a thread that is there later. Here it is never done then.
    """
    loop, is_refused = asyncio.get_running_loop(), False

    def run() -> Result:
        if is_refused:
            raise NoThreadError
        return work(*arguments, **named)

    try:
        return loop.run_in_executor(executor, run)
    except RuntimeError as error:
        is_refused = True
        refused: asyncio.Future[Result] = loop.create_future()
        refused.set_exception(NoThreadError(f"no thread can be started: {error}"))
        return refused


def do_meanwhile(what: str, work: Callable[[], object]) -> None:
    """Do in a thread what nobody waits for; where none can be started, the event `left_undone` names `what`."""
    in_thread(None, work).add_done_callback(partial(_end, what))


def _end(what: str, done: "asyncio.Future[object]") -> None:
    if done.cancelled():
        return
    try:
        done.result()  # what it raises goes on to the loop's handler
    except NoThreadError as error:
        event("left_undone", 30, what=what, reason=str(error))
