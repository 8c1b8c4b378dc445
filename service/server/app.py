"""The composition root: settings to loaded models, one route table, and the state that all requests share."""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from batchproof.service import errors
from batchproof.service.bundle.reader import Bundle
from batchproof.service.bundle.signing.trust import TrustPolicy, trust_policy
from batchproof.service.errors import BundleError, EngineError, SettingError, nearest
from batchproof.service.inference import model, registry
from batchproof.service.inference.admission import Admission
from batchproof.service.inference.batcher import Batcher
from batchproof.service.inference.engine import EngineOptions, provider_of
from batchproof.service.inference.model import Model
from batchproof.service.inference.registry import Registry, Snapshot
from batchproof.service.inference.trial import TrialLimits
from batchproof.service.invariance.audit import Audit, Watch
from batchproof.service.invariance.check import for_bundles
from batchproof.service.invariance.violations import Records
from batchproof.service.invariance.worker_agreement import agree
from batchproof.service.logs import event
from batchproof.service.metrics import Counters, Tally
from batchproof.service.protocols.cloud.protocol import AzureMachineLearning, Invocations, Version1, Vertex
from batchproof.service.protocols.interface import Limits, ServerInfo, WireProtocol
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.protocols.oip.protocol import OpenInference
from batchproof.service.server.endpoint import PredictEndpoint
from batchproof.service.settings import Settings
from batchproof.service.tables.streaming.body import Bounds
from batchproof.service.tables.streaming.endpoint import TableRoute, TableSlots
from batchproof.service.tables.streaming.stream import TableWorkers

DIALECTS: tuple[type[WireProtocol], ...] = (Native, OpenInference, Invocations, Vertex, AzureMachineLearning, Version1)
INLINE_S_ALONE = 0.001  # with a core to spare, requests that take longer than this leave the event loop
INLINE_S_SHARED = 0.004  # without one, handing over costs more than it frees


class App:
    """Everything that one process serves with. Made once; the event loop is the only one to change it."""

    def __init__(self, settings: Settings, loaded: Registry, dialects: Sequence[WireProtocol] | None = None) -> None:
        """Build the route table for the models that loaded."""
        self.settings = settings
        self.registry = loaded
        self.dialects = tuple(dialects if dialects is not None else (dialect() for dialect in DIALECTS))
        self.default = default_name(settings, loaded)
        self.admission = Admission(settings.queue_rows)
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="run")
        self.is_ready = bool(loaded.models)
        self.records = Records(Path(settings.audit_folder) if settings.audit_folder else None)
        self.tallies: dict[tuple[str, int, str], Tally] = {}  # by model, version, dialect
        self.batchers: dict[tuple[str, int], Batcher] = {}
        self._exchanges: dict[tuple[str, int], list[PredictEndpoint]] = {}
        self._limits = Limits(settings.max_rows, settings.error_limit, settings.max_body_bytes)
        self.routes: dict[str, PredictEndpoint] = {}  # POST path -> what answers it
        self.tables: dict[str, TableRoute] = {}  # POST path -> what answers it where a table comes or is wanted
        self._table_places = TableSlots(settings.table_requests)
        self._table_threads = ThreadPoolExecutor(2 * settings.table_requests, thread_name_prefix="table")
        self.counters = Counters(Path(settings.metrics_folder) if settings.metrics_folder else None, self.counts)
        self.audits: dict[tuple[str, int], Audit] = {}
        self.tell_violation: Callable[[str, int], None] = lambda _name, _version: None  # to the other workers
        for one in (one for versions in loaded.models.values() for one in versions.values()):
            self._add(one)

    def violated(self, name: str, version: int) -> None:
        """Say in fingerprints that this model, here or in another worker, broke its promise; serve it no more if so told.

        A model that is not served here, or was seen so before, changes nothing.
        """
        one = self.registry.models.get(name, {}).get(version)
        if one is None or one.is_violated:
            return
        self.registry = self.registry.violated(name, version)
        one = self.registry.models[name][version]
        for exchange in self._exchanges[name, version]:
            exchange.update_model(one, self._limits)
        for path in Native().paths(one, is_default=name == self.default, is_newest=self.registry.newest(name) is one):
            self.tables[path].update_model(one)
        if self.settings.invariance != "report":
            self._withdraw(name, version)

    @property
    def site(self) -> ServerInfo:
        """Return what a dialect's own pages may show."""
        return ServerInfo(self.registry, self.default, self.is_ready, self.counters.total)

    def counts(self) -> dict[str, Any]:
        """Return what this process has counted, as plain data."""
        flows = {}
        for (name, version), batcher in self.batchers.items():
            audit = self.audits.get((name, version))
            audited = {"looked": audit.looked, "violations": audit.violations} if audit else {}
            flows[f"{name}|{version}"] = batcher.flow.snapshot() | audited
        return {
            "tallies": {"|".join(map(str, key)): tally.snapshot() for key, tally in self.tallies.items()},
            "flows": flows,
            "now": {"queue_rows": self.admission.queued_rows, "workers": 1},
        }

    async def drain(self) -> None:
        """Go unready, admit nothing more and wait until every admitted row is answered, or drain_s has passed."""
        self.is_ready = False
        empty = asyncio.Event()
        self.admission.drain(empty.set)
        try:
            await asyncio.wait_for(empty.wait(), self.settings.drain_s)
        except TimeoutError:
            event("drain_timed_out", 30, rows=self.admission.queued_rows)

    def close(self) -> None:
        """Let the threads end."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        self._table_threads.shutdown(wait=True, cancel_futures=True)

    def _add(self, one: Model) -> None:
        name, version = one.manifest.name, one.manifest.version
        batcher = Batcher(
            one.runner,
            self.admission,
            self.executor,
            inline_s=inline_s(self.settings),
            wait_s=self.settings.batch_wait_s,
            on_failure=partial(_log_failure, name, version),
            watch=self._watch(one),
            give_way=None if has_spare_core(self.settings) else os.sched_yield,
        )
        self.batchers[name, version] = batcher
        exchanges = self._exchanges[name, version] = []
        is_newest = self.registry.newest(name) is one
        for dialect in self.dialects:
            tally = self.tallies[name, version, dialect.name] = Tally()
            exchange = PredictEndpoint(
                dialect,
                dialect.codec(one, self._limits),
                batcher,
                tally,
                self.settings.timeout_s,
                is_logged=self.settings.access_log,
            )
            exchanges.append(exchange)
            for path in dialect.paths(one, is_default=name == self.default, is_newest=is_newest):
                self.routes[path] = exchange
                if self.settings.root_path:
                    self.routes[self.settings.root_path + path] = exchange
        self._add_tables(one, batcher)

    def _add_tables(self, one: Model, batcher: Batcher) -> None:
        name, version = one.manifest.name, one.manifest.version
        tally = self.tallies[name, version, "tables"] = Tally()
        bounds = Bounds(self._limits, self.settings.max_table_bytes, self.settings.timeout_s)
        shop = TableWorkers(batcher, tally, self._table_threads, self.settings.error_limit)
        route = TableRoute(one, shop, self._table_places, bounds)
        is_newest = self.registry.newest(name) is one
        for path in Native().paths(one, is_default=name == self.default, is_newest=is_newest):
            self.tables[path] = self.tables[self.settings.root_path + path] = route

    def _watch(self, one: Model) -> Watch | None:
        if not self.settings.audit_every:
            return None
        name, version = one.manifest.name, one.manifest.version
        audit = self.audits[name, version] = Audit(self.settings.audit_every)
        return Watch(one, audit, self.records, partial(self._on_violation, name, version))

    def _on_violation(self, name: str, version: int) -> None:
        """Hear of a violation that this worker saw."""
        if not self.registry.models[name][version].is_violated:
            self.violated(name, version)
            self.tell_violation(name, version)

    def _withdraw(self, name: str, version: int) -> None:
        """Answer for this model no more: its promise was seen broken."""
        self.is_ready = False
        self.batchers[name, version].refuse(errors.withdrawn(name))
        event("model_withdrawn", 40, model=name, version=version)


def take_snapshot(settings: Settings) -> Snapshot:
    """Read the bundles that are to be served; raises SettingError where the folder cannot be read."""
    try:
        return registry.take_snapshot(settings.models, settings.versions, settings.pins, trust=_trust(settings))
    except BundleError as error:
        raise SettingError(f"{error}.") from error


def load(settings: Settings, snapshot: Snapshot | None = None) -> App:
    """Load and verify the models, of a `snapshot` of their folder where there is one; raises SettingError where the service cannot serve any request as it was told to."""
    options = EngineOptions(settings.device, settings.threads)
    load_one = partial(_load_model, settings, options)
    try:
        provider_of(options)  # no model could run on a device that is not there
        loaded = registry.load(
            settings.models, load_one, settings.versions, settings.pins, trust=_trust(settings), snapshot=snapshot
        )
    except (BundleError, EngineError) as error:
        raise SettingError(f"{error}.") from error
    except OSError as error:
        raise SettingError(f"The shared folder metrics_folder cannot be used: {errors.reason(error)}.") from error
    for refusal in loaded.refusals:
        event("model_refused", 30, model=refusal.name, version=refusal.version, reason=refusal.message)
    if not loaded.names:
        event("no_models", 30, what=f"no <name>/<version>/bundle.json in {settings.models}")
    if settings.default_model and settings.default_model not in loaded.models:
        near = nearest(settings.default_model, list(loaded.models))
        raise SettingError(f"default_model is {settings.default_model!r}, but no such model is loaded.{near}")
    return App(settings, loaded)


def _trust(settings: Settings) -> TrustPolicy:
    """Read the keys and certificates of the signers that count; raises SettingError."""
    key_files, root_files = map(Path, settings.trusted_keys), map(Path, settings.trusted_ca)
    return trust_policy(settings.signatures, tuple(key_files), tuple(root_files), settings.trusted_subjects)


def default_name(settings: Settings, loaded: Registry) -> str | None:
    """Return the model that plain /predict answers for, if there is one."""
    if settings.default_model:
        return settings.default_model
    return next(iter(loaded.models), None) if len(loaded.names) == 1 else None  # a refusal does not choose another


def inline_s(settings: Settings) -> float:
    """Return the estimated time of the longest request that runs on the event loop."""
    if settings.inline_s:
        return settings.inline_s
    return INLINE_S_ALONE if has_spare_core(settings) else INLINE_S_SHARED


def has_spare_core(settings: Settings) -> bool:
    """Return whether this machine has a core more than the workers take."""
    return len(os.sched_getaffinity(0)) > settings.workers


def _load_model(settings: Settings, options: EngineOptions, bundle: Bundle) -> Model:
    if bundle.unsigned is not None:
        event("unsigned_model", 30, model=bundle.manifest.name, version=bundle.manifest.version, reason=bundle.unsigned)
    limits = TrialLimits(settings.load_memory_bytes, settings.load_timeout_s)
    loaded = model.load(bundle, options, settings.run_rows, for_bundles(settings.invariance), limits)
    if loaded.verification is not None:
        found = loaded.verification
        event(
            "model_loaded",
            30 if found.status == "reported" else 20,
            model=loaded.manifest.name,
            version=loaded.manifest.version,
            invariance=found.status,
            verify_s=round(found.seconds, 4),
            what=found.sentence,
            **({"signer": bundle.signer} if bundle.signer else {}),
        )
        if settings.metrics_folder and settings.invariance != "report":
            agree(Path(settings.metrics_folder), loaded.manifest.sha256, found)
    return loaded


def _log_failure(name: str, version: int, error: EngineError) -> None:
    event("engine_failed", 40, model=name, version=version, reason=str(error))
