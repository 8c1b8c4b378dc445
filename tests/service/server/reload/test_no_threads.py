"""Reloads on a system that starts no further thread: each is refused with its reason, and the service goes on."""

import asyncio
import logging
import queue
import threading
from pathlib import Path
from typing import Any, NoReturn

import httpx
import orjson
import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.inference.catalogue.plan import Plan
from batchproof.service.inference.catalogue.shelf import Shelf
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.server.http import asgi
from batchproof.service.server.loading.reloader import Order, Reloader
from batchproof.service.server.reload.following import Follower
from batchproof.service.server.reload.signals import Reloads
from batchproof.service.server.serving import app
from batchproof.service.server.workers import control
from tests.bundles import make_bundle
from tests.inside import serving

REASON = "no thread can be started: can't start new thread"


class NoCrew:
    """A crew that is never asked."""

    def load(self, *_: Any) -> NoReturn:
        """Fail."""
        raise AssertionError

    def commit(self) -> NoReturn:
        """Fail."""
        raise AssertionError


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system start no thread from now on."""

    def start(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_a_worker_tells_its_supervisor_and_loads_the_next_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor gets FAILED with the reason for the plan's number; once there are threads, a plan is loaded again."""
    make_bundle(tmp_path)
    service = app.load(Settings(models=tmp_path))
    plan = Plan.of(service.registry, service.settings.shadow_share, service.generation).as_json()

    async def scene() -> None:
        letters: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
        follower = Follower(service, lambda kind, body: letters.put_nowait((kind, body)))
        with monkeypatch.context() as refusing:
            refuse_threads(refusing)
            follower.on_letter(control.LOAD, b"7 " + plan)
            await asyncio.sleep(0)
        kind, body = letters.get_nowait()
        assert (kind, body[:2]) == (control.FAILED, b"7 ")
        assert orjson.loads(body[2:]) == {"reason": REASON, "entry": None}

        follower.on_letter(control.LOAD, b"8 " + plan)
        assert (await asyncio.wait_for(letters.get(), 20))[0] == control.LOADED

    asyncio.run(scene())


def test_an_order_is_refused_and_the_next_one_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ordered is told, not left waiting; an order for which there is a thread again is carried out."""
    make_bundle(tmp_path)
    settings = Settings(models=tmp_path)
    service = app.load(settings)
    plan, crew = Plan.of(service.registry, 0.1, 1), NoCrew()
    reloader = Reloader(settings, lambda: settings, crew, plan, Shelf(None), ReloadCounts())
    told: queue.SimpleQueue[ServiceError | None] = queue.SimpleQueue()
    with monkeypatch.context() as refusing:
        refuse_threads(refusing)
        assert not reloader.start()
        reloader.order(Order("load", "flowers", told.put))
        error = told.get_nowait()
        assert error is not None
        assert (error.status, error.code) == (500, "internal_error")
    reloader.order(Order("unload", "no-such-model", told.put))
    error = told.get(timeout=20)
    assert error is not None
    assert error.status == 400


def test_sighup_without_threads_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reload is refused in one line, and the process that got SIGHUP goes on."""
    make_bundle(tmp_path)
    service = app.load(Settings(models=tmp_path))

    async def scene() -> None:
        reloads = Reloads(service, None, None)
        reloads.begin()
        with monkeypatch.context() as refusing:
            refuse_threads(refusing)
            reloads._on_hangup(1, None)
            reloads.look()
            assert reloads._rescan is not None
            await reloads._rescan

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())
    assert [(one.message, one.__dict__["fields"]) for one in caplog.records] == [("reload_refused", {"reason": REASON})]


@pytest.mark.parametrize("fault", ["no thread", "an import that fails"])
def test_pages_that_could_not_be_made_are_made_by_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """One request for a page fails with 500; the page is there as soon as it can be made."""
    make_bundle(tmp_path)
    with serving(Settings(models=tmp_path)) as server:
        url = f"http://127.0.0.1:{server.port}/openapi.json"
        with monkeypatch.context() as broken:
            if fault == "no thread":
                refuse_threads(broken)
            else:
                broken.setattr(asgi, "_make_pages", lambda _: int("x"))
            assert [httpx.get(url, timeout=60).status_code for _ in range(2)] == [500, 500]
        assert httpx.get(url, timeout=60).status_code == 200
