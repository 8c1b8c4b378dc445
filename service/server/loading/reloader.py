"""The one place that decides what is served next, in the process that decides for all: the supervisor, or the only one.

`Reloader` works through orders in a thread of its own: a look at the models folder, SIGHUP, a caller's load or unload. It
reads what changed, makes a plan, and has its crew carry it out: load everywhere, then swap everywhere, or nowhere.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import BundleError, ServiceError, SettingError
from batchproof.service.inference.catalogue.plan import Entry, Fault, Plan
from batchproof.service.inference.catalogue.planner import Planner, Wish
from batchproof.service.inference.catalogue.repository import Refusal
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.inference.catalogue.shelf import Shelf
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.runtime.logs import event

RELOADED = frozenset({"versions", "pins", "labels", "shadow", "shadow_share"})  # settings that SIGHUP puts into force
FAILED = ServiceError(500, "internal_error", "The reload failed; the log says why.")

Kind = Literal["rescan", "poll", "load", "unload"]


class Crew(Protocol):
    """Who serves: this process, or the supervisor's workers. Called in the reloader's thread; each call waits."""

    def load(self, plan: Plan, shelf: Shelf) -> Fault | None:
        """Have everybody load the plan beside what is served; returns why that is not possible, and then nobody has."""

    def commit(self) -> None:
        """Have everybody serve the plan that was loaded; returns when all of them do."""


class ModelControl(Protocol):
    """How a request on the event loop has a model loaded or unloaded."""

    async def order(self, kind: Kind, name: str) -> None:
        """Return when it is done in every process; raises ServiceError where it is not."""


@dataclass(frozen=True)
class Order:
    """What to do, and whom to tell how it ended: None for well."""

    kind: Kind
    name: str = ""
    reply: Callable[[ServiceError | None], None] = lambda _: None


class Reloader:
    """Carries out orders one after the other."""

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        crew: Crew,
        served: Plan,
        shelf: Shelf,
        counts: ReloadCounts,
    ) -> None:
        """Begin with what is `served`; `reread` returns the settings as they are now, or raises SettingError."""
        self._settings = settings
        self._reread = reread
        self._crew = crew
        self._served = served
        self._shelf = shelf
        self._counts = counts
        self._planner = Planner(settings.models, shelf)
        self._logged = {(refusal.name, refusal.version, refusal.message) for refusal in served.refusals}
        self._unloaded: frozenset[str] = frozenset()
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Begin; the thread ends with the process. Returns whether there is one: the system may start no further thread."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="reload", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                event("reload_refused", 30, reason=f"no thread can be started: {error}")
                return False
            self._thread = thread
        return True

    def order(self, order: Order) -> None:
        """Have an order carried out after those before it, or refused where no thread can be started."""
        self._orders.put(order)
        if not self.start():
            self._refuse_orders()

    def _work(self) -> None:
        """Work through orders; an error that nobody foresaw ends this thread, and another one goes on."""
        try:
            while True:
                self._work_once()
        finally:
            self._thread = None
            if not self.start():
                self._refuse_orders()

    def _refuse_orders(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._orders.get_nowait().reply(FAILED)

    def _work_once(self) -> None:
        wait_s = self._settings.poll_s if self._settings.model_control == "poll" else None
        try:
            order = self._orders.get(timeout=wait_s)
        except queue.Empty:
            order = Order("poll")
        error: ServiceError | None = FAILED
        try:
            error = self.carry_out(order)
        finally:
            order.reply(error)

    def carry_out(self, order: Order) -> ServiceError | None:
        """Do what is ordered; returns why it was not done. What is served stays as it is then."""
        try:
            return self._try(order)
        except (SettingError, BundleError) as error:
            return self._refused(None, str(error).rstrip("."), order)

    def _try(self, order: Order) -> ServiceError | None:
        if order.kind == "rescan":
            self._take_settings()
        if order.kind in ("rescan", "load"):
            self._shelf.forget_faults()
            self._logged.clear()
        unloaded = self._unloaded - {order.name} if order.kind == "load" else self._unloaded
        if order.kind == "unload":
            unloaded |= {order.name}
        error = self._reload(order, unloaded)
        if error is not None and order.kind == "load":
            self._note_refusals(order.name)
        return error

    def _reload(self, order: Order, unloaded: frozenset[str]) -> ServiceError | None:
        tried: list[Plan] = []
        while True:
            only = order.name if order.kind in ("load", "unload") else None
            wish = Wish(Selection.of(self._settings), self._settings.shadow_share, unloaded, only)
            plan = self._planner.plan(wish, self._served)
            error = self._check(order, plan)
            if error is not None:
                return error
            if plan == self._served:
                break
            fault = self._crew.load(plan, self._shelf)
            if fault is None:
                self._commit(plan)
                break
            self._pass_over(fault, plan)
            tried.append(plan)
            if fault.entry is None or order.kind == "load" or tried.count(plan) > 1:
                return self._refused(fault.entry, fault.reason, order)
        self._unloaded = unloaded
        self._log_refusals(plan)
        return None

    def _note_refusals(self, name: str) -> None:
        """Have pages and indexes show why a model could not be loaded; what is served stays."""
        wish = Wish(Selection.of(self._settings), self._settings.shadow_share, self._unloaded - {name}, name)
        refused = self._planner.plan(wish, self._served).refusals
        plan = replace(self._served, refusals=refused)
        if plan != self._served and self._crew.load(plan, self._shelf) is None:
            self._commit(plan)

    def _commit(self, plan: Plan) -> None:
        before, self._served = self._served, plan
        self._crew.commit()
        self._shelf.keep(plan.entries)
        if plan.generation == before.generation:
            return
        self._counts.succeeded()
        event(
            "reloaded",
            generation=plan.generation,
            loaded=[_named(entry) for entry in plan.entries if entry not in before.entries],
            unloaded=[_named(entry) for entry in before.entries if entry not in plan.entries],
            labels=_label_texts(plan),
        )

    def _check(self, order: Order, plan: Plan) -> ServiceError | None:
        """Return why the plan is not what was ordered, by a caller or by the settings."""
        default = self._settings.default_model
        names = {entry.name for entry in plan.entries}
        if default and default not in names:
            return self._refused(None, f"the default model {default!r} would no longer be served", order)
        if order.kind == "load":
            refusal = next((one for one in plan.refusals if one.name == order.name), None)
            if refusal is not None:
                entry = Entry(refusal.name, refusal.version or 0, "", "")
                return self._refused(entry, refusal.message, order)
            if order.name not in names:
                return self._refused(None, f"{self._settings.models} has no version of it", order)
        if order.kind == "unload" and order.name not in {entry.name for entry in self._served.entries}:
            return ServiceError(400, "unknown_model", f"failed to unload '{order.name:.100}': no such model is loaded.")
        return None

    def _take_settings(self) -> None:
        """Put into force what may change while the service runs, and say of the rest that it needs a restart."""
        fresh = self._reread()
        update = {name: getattr(fresh, name) for name in RELOADED}
        self._settings = self._settings.model_copy(update=update)
        others = [name for name in type(fresh).model_fields if name not in RELOADED and name != "metrics_folder"]
        waiting = [name for name in others if getattr(fresh, name) != getattr(self._settings, name)]
        if waiting:
            event("settings_need_restart", 30, settings=waiting)

    def _pass_over(self, fault: Fault, plan: Plan) -> None:
        """Remember what could not be loaded, until its files change: all that is new where nobody knows what it was."""
        new = [entry for entry in plan.entries if entry not in self._served.entries]
        for entry in [fault.entry] if fault.entry is not None else new:
            self._shelf.refuse(Planner.folder_of(entry), fault.reason)

    def _refused(self, entry: Entry | None, reason: str, order: Order) -> ServiceError:
        """Log and count what an order could not do; returns it as its caller reads it."""
        name, version = (entry.name, entry.version) if entry else (order.name or None, None)
        self._log(Refusal(name or "", version, reason), order.kind)
        return ServiceError(400, "load_failed", f"failed to {order.kind} '{order.name:.100}': {reason}.")

    def _log_refusals(self, plan: Plan) -> None:
        for refusal in plan.refusals:
            self._log(refusal, "")
        self._logged &= {(one.name, one.version, one.message) for one in plan.refusals}

    def _log(self, refusal: Refusal, kind: str) -> None:
        """Log and count a refusal once for what the folder holds; a caller's order is logged each time."""
        key = (refusal.name, refusal.version, refusal.message)
        if key in self._logged and kind in ("", "poll"):
            return
        self._logged.add(key)
        self._counts.failed()
        named = {"model": refusal.name, "version": refusal.version} if refusal.name else {}
        event("reload_refused", 30, **named, reason=refusal.message)


def _named(entry: Entry) -> str:
    return f"{entry.name}/{entry.version}"


def _label_texts(plan: Plan) -> list[str]:
    return [f"{name}.{label}={version}" for name, labels in plan.labels.items() for label, version in labels.items()]
