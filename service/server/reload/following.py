"""A worker's part in a reload: load what the supervisor says, answer, and swap when all have loaded."""

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson

from batchproof.service.errors import ServiceError
from batchproof.service.inference.catalogue.plan import Entry, Plan
from batchproof.service.runtime.threads import NoThreadError, in_thread
from batchproof.service.server.loading.reloader import Kind
from batchproof.service.server.reload.staging import Staged, StageError, commit, stage
from batchproof.service.server.serving.app import App
from batchproof.service.server.workers import control


def follow(app: App, link: control.SupervisorLink) -> None:
    """Say what is served, and have the supervisor decide from now on. Called on the event loop."""
    link.open(Plan.of(app.registry, app.settings.shadow_share, app.generation).as_json())
    follower = Follower(app, link.send_letter)
    link.on_letter = follower.on_letter
    app.model_control = follower


class Follower:
    """One worker. All methods are called on the event loop."""

    def __init__(self, app: App, send: Callable[[bytes, bytes], None]) -> None:
        """Serve with `app`; `send` a letter to the supervisor."""
        self._app = app
        self._send = send
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="reload")
        self._number = b""  # of the plan that is wanted; empty for none
        self._staged: Staged | None = None
        self._orders: dict[int, asyncio.Future[ServiceError | None]] = {}
        self._order_numbers = itertools.count(1)

    def on_letter(self, kind: bytes, body: bytes) -> None:
        """Do what the supervisor says."""
        if kind == control.LOAD:
            number, _, plan = body.partition(b" ")
            self._load(number, Plan.from_json(plan))
        elif kind == control.COMMIT:
            self._commit(body)
        elif kind == control.ABORT:
            self._number, self._staged = b"", None
        elif kind == control.RESULT:
            self._end_order(**orjson.loads(body))

    async def order(self, kind: Kind, name: str) -> None:
        """Have the supervisor load or unload a model; returns when all workers have, raises ServiceError otherwise."""
        number = next(self._order_numbers)
        done = self._orders[number] = asyncio.get_running_loop().create_future()
        self._send(control.ORDER, orjson.dumps({"number": number, "kind": kind, "name": name}))
        try:
            error = await done
        finally:
            self._orders.pop(number, None)
        if error is not None:
            raise error

    def _end_order(self, number: int, status: int, code: str, message: str) -> None:
        done = self._orders.get(number)
        if done is not None and not done.done():
            done.set_result(ServiceError.relayed(status, code, message) if status else None)

    def _load(self, number: bytes, plan: Plan) -> None:
        self._number, self._staged = number, None
        loading = in_thread(self._executor, stage, self._app, plan, _nothing)
        loading.add_done_callback(partial(self._end_load, number))

    def _end_load(self, number: bytes, loading: "asyncio.Future[Staged]") -> None:
        """Answer, whatever loading ended with; an error that nobody foresaw goes on to the loop's handler."""
        content: dict[str, Any] = {}
        kind, content = control.FAILED, {"reason": "an unforeseen error, which the log describes", "entry": None}
        try:
            staged = loading.result()
            kind, content = control.LOADED, dict(staged.digests())
            if number == self._number:
                self._staged = staged
        except StageError as error:
            entry = error.fault.entry
            content = {"reason": error.fault.reason, "entry": None if entry is None else list(entry)}
        except NoThreadError as error:
            content = {"reason": str(error), "entry": None}
        finally:
            self._send(kind, number + b" " + orjson.dumps(content))

    def _commit(self, number: bytes) -> None:
        staged, self._staged = self._staged, None
        if staged is not None and number == self._number:
            commit(self._app, staged)
        self._send(control.COMMITTED, number)


def _nothing(_entry: Entry) -> None:
    """Return no bundle: a worker reads what the supervisor has read, and compares the seal."""
