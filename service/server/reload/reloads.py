"""A serving process's part in reloads: SIGHUP, who decides, and how callers order one."""

import asyncio
from collections.abc import Callable
from typing import Any

from batchproof.service.configuration.settings import Settings
from batchproof.service.inference.catalogue.plan import Plan
from batchproof.service.inference.catalogue.shelf import Shelf
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.server.loading.loading import trust_of
from batchproof.service.server.loading.reloading import Order, Reloader
from batchproof.service.server.reload.following import Follower
from batchproof.service.server.reload.local_crew import LocalControl, LocalCrew
from batchproof.service.server.serving.app import App
from batchproof.service.server.workers.control import SupervisorLink


def plan_of(app: App) -> Plan:
    """Return the plan that describes what is served now."""
    return Plan.of(app.registry, app.settings.shadow_share, app.generation)


class Reloads:
    """Follows the supervisor over a link, or decides alone where there is none."""

    def __init__(self, app: App, link: SupervisorLink | None, reread: Callable[[], Settings] | None) -> None:
        """Reload what `app` serves; `reread` returns the settings as they are by then."""
        self._app = app
        self._link = link
        self._reread = reread or (lambda: app.settings)
        self._reloader: Reloader | None = None
        self._is_hung_up = False

    def begin(self) -> None:
        """Listen to orders; called on the event loop once it runs."""
        app = self._app
        if self._link is not None:
            follower = Follower(app, self._link.send_letter)
            self._link.on_letter = follower.on_letter
            app.model_control = follower
            return
        app.reload_counts = ReloadCounts()
        served, shelf = plan_of(app), Shelf(trust_of(app.settings))
        for entry in served.entries:
            shelf.hold(entry, app.registry.models[entry.name][entry.version].bundle)
        crew = LocalCrew(app, asyncio.get_running_loop())
        self._reloader = Reloader(app.settings, self._reread, crew, served, shelf, app.reload_counts)
        self._reloader.start()
        app.model_control = LocalControl(self._reloader.order)

    def on_hangup(self, _signal: int, _frame: Any) -> None:
        """Note SIGHUP; `look` does the rest, because a handler may interrupt anything."""
        self._is_hung_up = True

    def look(self) -> None:
        """Do what SIGHUP asked for; called now and then on the event loop."""
        if not self._is_hung_up:
            return
        self._is_hung_up = False
        if self._app.authorization is not None:
            asyncio.get_running_loop().run_in_executor(None, self._app.authorization.refresh)
        if self._reloader is not None:
            self._reloader.order(Order("rescan"))
