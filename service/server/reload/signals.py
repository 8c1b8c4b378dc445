"""A serving process's part in reloads: SIGHUP, who decides, and how callers order one.

A process that has nobody above it, and whose settings let neither time nor callers change what it serves, loads what
reloads need with its first SIGHUP.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import SettingError
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.threads import NoThreadError, do_meanwhile, in_thread
from batchproof.service.server.loading.early_hangup import handle_hangups
from batchproof.service.server.serving.app import App

if TYPE_CHECKING:
    from batchproof.service.server.loading.reloader import Reloader
    from batchproof.service.server.workers.control import SupervisorLink

LOCAL_CREW = "batchproof.service.server.reload.local_crew"


class Reloads:
    """Follows the supervisor over a link, or decides alone where there is none."""

    def __init__(self, app: App, link: "SupervisorLink | None", reread: Callable[[], Settings] | None) -> None:
        """Reload what `app` serves; `reread` returns the settings as they are by then."""
        self._app = app
        self._link = link
        self._reread = reread or (lambda: app.settings)
        self._reloader: Reloader | None = None
        self._is_hung_up = False
        self._rescan: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Listen to orders; called on the event loop once it runs."""
        if self._link is not None:
            from batchproof.service.server.reload.following import follow

            follow(self._app, self._link)
            return
        self._app.reload_counts = ReloadCounts()
        if self._app.settings.model_control != "none":
            self._start_reloader()

    def listen(self) -> None:
        """Note SIGHUP from here on; `look` does the rest, because a handler may interrupt anything."""
        if handle_hangups(self._on_hangup):
            self._is_hung_up = True

    def _on_hangup(self, _signal: int, _frame: Any) -> None:
        self._is_hung_up = True

    def look(self) -> None:
        """Do what SIGHUP asked for; called now and then on the event loop."""
        if not self._is_hung_up:
            return
        self._is_hung_up = False
        for what, renewed in (("keys", self._app.authorization), ("certificates", self._app.tls)):
            if renewed is not None:
                do_meanwhile(f"{what} are read again", partial(renewed.refresh, at_once=True))
        if self._link is None:
            self._rescan = asyncio.get_running_loop().create_task(self._order_rescan())

    async def _order_rescan(self) -> None:
        try:
            await in_thread(None, import_module, LOCAL_CREW)  # takes some milliseconds
            reloader = self._reloader or self._start_reloader()
        except (SettingError, NoThreadError) as error:  # such as a key file that is gone by now
            event("reload_refused", 30, reason=str(error).rstrip("."))
            return
        from batchproof.service.server.loading.reloader import Order

        reloader.order(Order("rescan"))

    def _start_reloader(self) -> "Reloader":
        from batchproof.service.server.reload import local_crew

        self._reloader = local_crew.start_reloader(self._app, self._reread)
        return self._reloader
