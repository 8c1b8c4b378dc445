"""From a plan to a table of routes that only waits to be swapped in: all the work of a reload, off the event loop.

`stage` runs in the loading thread: it reads, loads, checks and verifies what is new, and makes every codec and the table.
`commit` runs on the event loop and takes microseconds.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batchproof.service.bundle.reader import Bundle
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import BundleError, EngineError, SettingError, reason
from batchproof.service.inference.catalogue.plan import Committed, Entry, Fault, Plan
from batchproof.service.inference.catalogue.registry import Registry, read
from batchproof.service.inference.catalogue.repository import BundleFolder
from batchproof.service.inference.model import Model
from batchproof.service.runtime import memory
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.runtime.threads import do_meanwhile
from batchproof.service.server.loading.loading import load_model, trust_of
from batchproof.service.server.serving.app import App, Routes
from batchproof.service.server.serving.deployment import Deployment

NICE = 10  # of the loading thread: who answers goes first
PAUSE_FACTOR = 3.0  # the check has a quarter of a core, in steps of one run of the engine
SWITCH_S = 0.0005  # how long the loading thread may keep the interpreter while the event loop waits for it

Bundles = Callable[[Entry], Bundle | None]  # what is in memory


class StageError(Exception):
    """A plan that cannot be served here."""

    def __init__(self, fault: Fault) -> None:
        """Hold the fault."""
        super().__init__(fault.reason)
        self.fault = fault


@dataclass(frozen=True)
class Staged:
    """A plan that is ready to be served."""

    plan: Plan
    deployments: Mapping[ModelKey, Deployment]
    reused: Mapping[ModelKey, Deployment]  # those that were served at the time, as they were
    registry: Registry
    routes: Routes

    def digests(self) -> dict[str, str]:
        """Return the digest of the probe rows' bits of each version that was verified, by name, version and seal."""
        return {
            f"{key.name}/{key.version}/{deployment.model.manifest.sha256}": deployment.model.verification.bits
            for key, deployment in self.deployments.items()
            if deployment.model.verification is not None
        }


def resume(settings: Settings, committed: Committed) -> App:
    """Return an application that serves what is committed, for a worker that starts; raises SettingError."""
    app = App(settings, Registry())
    try:
        commit(app, stage(app, committed.plan, committed.bundles.get))
    except StageError as error:
        raise SettingError(f"{error}.") from error
    return app


def stage(app: App, plan: Plan, bundles: Bundles) -> Staged:
    """Make everything that the plan needs; raises StageError. Called in the loading thread.

    A version that is served already with the same seal is not loaded again: it keeps its queue, pace and counts.
    """
    served = app.deployments
    deployments: dict[ModelKey, Deployment] = {}
    reused: dict[ModelKey, Deployment] = {}
    with _polite():
        for entry in plan.entries:
            key = ModelKey(entry.name, entry.version)
            present = served.get(key)
            if present is not None and present.model.manifest.sha256 == entry.sha256:
                reused[key] = present
            else:
                present = app.deploy(_load(app, entry, bundles))
                older = next((one for other, one in served.items() if other.name == entry.name), None)
                if older is not None:
                    present.batcher.pace.follow(older.batcher.pace)
            deployments[key] = present.with_labels(_labels(plan, key))
        registry = _registry(plan, deployments)
        return Staged(plan, deployments, reused, registry, app.routes_of(deployments, registry))


def commit(app: App, staged: Staged) -> list["asyncio.Future[None]"]:
    """Serve what was staged from the next request on; returns a future for each version that left. On the event loop."""
    deployments, registry, routes = dict(staged.deployments), staged.registry, staged.routes
    changed = [key for key, before in staged.reused.items() if app.deployments.get(key, before) is not before]
    if changed:  # a verdict came in between, and a label's paths name it too
        for key in changed:
            deployments[key] = app.deployments[key].with_labels(_labels(staged.plan, key))
        registry = _registry(staged.plan, deployments)
        routes = app.routes_of(deployments, registry)
    kept = {id(deployment.batcher) for deployment in deployments.values()}
    left = [(old.key, old.drained()) for old in app.deployments.values() if id(old.batcher) not in kept]
    app.generation, app.shadow_share = staged.plan.generation, staged.plan.shadow_share
    app.swap(deployments, registry, routes)
    for key, drained in left:
        drained.add_done_callback(partial(_log_freed, key))
    return [drained for _, drained in left]


def _log_freed(key: ModelKey, _drained: "asyncio.Future[None]") -> None:
    event("model_freed", model=key.name, version=key.version)
    do_meanwhile("freed memory goes back to the system", memory.give_back)


def _load(app: App, entry: Entry, bundles: Bundles) -> Model:
    folder = BundleFolder(entry.name, entry.version, Path(entry.folder))
    try:
        bundle = bundles(entry) or _read(app, folder, entry)
        return load_model(app.settings, bundle, PAUSE_FACTOR if _is_beside_event_loop() else 0.0)
    except (BundleError, EngineError) as error:
        raise StageError(Fault(str(error), entry)) from error
    except OSError as error:
        raise StageError(Fault(f"it cannot be loaded: {reason(error)}", entry)) from error


def _read(app: App, folder: BundleFolder, entry: Entry) -> Bundle:
    bundle = read(folder, None, trust_of(app.settings))
    if bundle.manifest.sha256 != entry.sha256:
        raise BundleError("its files changed while it was loaded")
    return bundle


def _labels(plan: Plan, key: ModelKey) -> list[str]:
    return [label for label, version in plan.labels.get(key.name, {}).items() if version == key.version]


def _registry(plan: Plan, deployments: Mapping[ModelKey, Deployment]) -> Registry:
    models: dict[str, dict[int, Model]] = {}
    for key, deployment in deployments.items():
        models.setdefault(key.name, {})[key.version] = deployment.model
    return Registry(models, plan.refusals, plan.defaults, plan.labels, plan.shadows, plan.unloaded)


def _is_beside_event_loop() -> bool:
    """Return whether this thread loads beside one that serves; the main thread loads what a process starts with."""
    return threading.current_thread() is not threading.main_thread()


@contextmanager
def _polite() -> Iterator[None]:
    """Leave the cores to who answers, and hand the interpreter to the event loop sooner than usual."""
    if _is_beside_event_loop():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)  # on Linux: of this thread and those it starts
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)
