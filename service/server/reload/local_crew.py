"""A reload in a service of one process: the reloader's thread loads, the event loop swaps. And how callers order one."""

import asyncio
import queue
from collections.abc import Callable

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.inference.catalogue.plan import Fault, Plan
from batchproof.service.inference.catalogue.shelf import Shelf
from batchproof.service.server.loading.loading import trust_of
from batchproof.service.server.loading.reloader import Kind, Order, Reloader
from batchproof.service.server.reload.staging import Staged, StageError, commit, stage
from batchproof.service.server.serving.app import App


def start_reloader(app: App, reread: Callable[[], Settings]) -> Reloader:
    """Have a thread decide what `app` serves, and callers order from it. Called on the event loop."""
    served, shelf = Plan.of(app.registry, app.settings.shadow_share, app.generation), Shelf(trust_of(app.settings))
    for entry in served.entries:
        shelf.hold(entry, app.registry.models[entry.name][entry.version].bundle)
    assert app.reload_counts is not None, "a process that decides alone counts reloads"
    crew = LocalCrew(app, asyncio.get_running_loop())
    reloader = Reloader(app.settings, reread, crew, served, shelf, app.reload_counts)
    reloader.start()
    app.model_control = LocalControl(reloader.order)
    return reloader


class LocalCrew:
    """The only process."""

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop) -> None:
        """Serve with `app`, which `loop` runs."""
        self._app = app
        self._loop = loop
        self._staged: Staged | None = None

    def load(self, plan: Plan, shelf: Shelf) -> Fault | None:
        """Load it in this thread."""
        self._staged = None
        try:
            self._staged = stage(self._app, plan, shelf.bundle)
        except StageError as error:
            return error.fault
        return None

    def commit(self) -> None:
        """Swap on the loop, and wait for it; a loop that has ended serves nothing any more."""
        staged, self._staged = self._staged, None
        assert staged is not None, "a plan is committed after it was loaded"
        done: queue.SimpleQueue[None] = queue.SimpleQueue()

        def swap() -> None:
            commit(self._app, staged)
            done.put(None)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(swap)
            done.get()


class LocalControl:
    """Lets callers on the event loop order a load or unload and wait for its end."""

    def __init__(self, order: Callable[[Order], None]) -> None:
        """Pass orders on with `order`."""
        self._order = order

    async def order(self, kind: Kind, name: str) -> None:
        """Return when it is done in every process; raises ServiceError where it is not."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[ServiceError | None] = loop.create_future()

        def reply(error: ServiceError | None) -> None:
            loop.call_soon_threadsafe(_tell, done, error)

        self._order(Order(kind, name, reply))
        error = await done
        if error is not None:
            raise error


def _tell(done: "asyncio.Future[ServiceError | None]", error: ServiceError | None) -> None:
    if not done.done():  # its caller has not gone
        done.set_result(error)
