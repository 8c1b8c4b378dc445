"""One served model: its queue, its audit, an endpoint for each protocol, its tables and its counts.

A deployment never changes what it serves. A new version, and a model whose verdict changed, are new deployments; the
table of routes is then replaced as a whole (`server.serving.app.App.replace`). A request stays on the deployment that its head
met, so an old one goes on answering until its last request is done; then nothing refers to it and its engine is freed.
"""

import asyncio
import os
import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from batchproof.service import errors
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import EngineError
from batchproof.service.inference.batcher import Batcher
from batchproof.service.inference.model import Description, Model
from batchproof.service.invariance.audit import Audit, Watch
from batchproof.service.protocols.interface import Codec, WireProtocol
from batchproof.service.runtime.change_counts import ShadowCounts
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.runtime.system import cores
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.server.serving.shared import ModelMeter, Shared
from batchproof.service.tables.streaming.endpoint import TableEndpoint
from batchproof.service.tables.streaming.interface import ROUTE as TABLES
from batchproof.service.tables.streaming.interface import Bounds, TableWorkers

if TYPE_CHECKING:
    from batchproof.service.journal.writing.recording import ModelJournal
    from batchproof.service.server.serving.codecs.remote_codec import RemoteCodec

INLINE_S_ALONE = 0.001  # with a core to spare, requests that take longer than this leave the event loop
INLINE_S_SHARED = 0.004  # without one, handing over costs more than it frees


class Face(NamedTuple):
    """What answers for one version: under its own paths, or under those of a label."""

    endpoints: Mapping[str, PredictEndpoint]  # by the name of the protocol
    table: TableEndpoint


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Deployment:
    """One served model. Made by `deploy`, in any thread: it takes no requests until it is in a table of routes."""

    key: ModelKey
    model: Model
    batcher: Batcher
    meter: ModelMeter
    endpoints: Mapping[str, PredictEndpoint]  # by the name of the protocol
    table: TableEndpoint
    shared: Shared
    journal: "ModelJournal | None" = None
    labels: Mapping[str, Face] = field(default_factory=dict)

    def paths(self, *, is_default: bool, is_newest: bool) -> dict[str, PredictEndpoint]:
        """Return the POST paths that answer for this model, and what answers there."""
        return {
            path: self.endpoints[protocol.name]
            for protocol in self.shared.protocols
            for path in protocol.paths(self.model, is_default=is_default, is_newest=is_newest)
        }

    def table_paths(self, *, is_default: bool, is_newest: bool) -> list[str]:
        """Return the POST paths that answer where a table is sent or wanted: those of the native protocol."""
        return list(self.shared.protocols[0].paths(self.model, is_default=is_default, is_newest=is_newest))

    def label_paths(self) -> dict[str, PredictEndpoint]:
        """Return the POST paths of its labels, and what answers there."""
        return {
            path: face.endpoints[protocol.name]
            for label, face in self.labels.items()
            for protocol in self.shared.protocols
            for path in protocol.label_paths(self.model, label)
        }

    def label_tables(self) -> dict[str, TableEndpoint]:
        """Return the paths of its labels where a table is sent or wanted, and what answers there."""
        native = self.shared.protocols[0]
        return {
            path: face.table for label, face in self.labels.items() for path in native.label_paths(self.model, label)
        }

    def with_verdict(self, model: Model) -> "Deployment":
        """Return the same queue and counts with what `model` says of itself: its fingerprint changed, its bits not."""
        make = partial(_face, model, _Parts(self.batcher, self.meter, self.shared, self.journal))
        own, labels = make(), {label: make(label) for label in self.labels}
        return replace(self, model=model, endpoints=own.endpoints, table=own.table, labels=labels)

    def with_labels(self, labels: Collection[str]) -> "Deployment":
        """Return the same queue and counts under other labels."""
        if set(labels) == set(self.labels):
            return self
        parts = _Parts(self.batcher, self.meter, self.shared, self.journal)
        return replace(self, labels={label: _face(self.model, parts, label) for label in labels})

    def compare_with(self, challenger: Model | None, share: float) -> None:
        """Compare a share of the batches with what `challenger` answers, from now on; None for no comparison."""
        if challenger is None:
            self.batcher.shadow = None
            return
        from batchproof.service.server.serving.observing.shadow import Shadow

        present = self.batcher.shadow
        if challenger.manifest.signature != self.model.manifest.signature:
            self.batcher.shadow = None
            reason = "its signature is another one"
            event("shadow_refused", 30, model=self.key.name, version=challenger.manifest.version, reason=reason)
        elif not isinstance(present, Shadow) or present.challenger is not challenger or present.share != share:
            counts = self.meter.shadows.setdefault(challenger.manifest.version, ShadowCounts())
            admission = self.shared.admission
            is_busy = lambda: admission.queued_rows > 0  # noqa: E731
            self.batcher.shadow = Shadow(self.model, challenger, share, counts, is_busy, self.shared.shadow_executor)

    def withdraw(self) -> None:
        """Refuse every later request with 503: the model was seen to break its promise. Admitted rows still run."""
        self.batcher.refuse(errors.withdrawn(self.key.name))
        event("model_withdrawn", 40, model=self.key.name, version=self.key.version)

    def drained(self) -> "asyncio.Future[None]":
        """Return a future that is done when the last request is answered and the engine is freed.

        Whoever waits must let go of this deployment first, and it must have left the table of routes.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        weakref.finalize(self.batcher, _tell, loop, future).atexit = False
        return future


def deploy(model: Model, shared: Shared, meter: ModelMeter) -> Deployment:
    """Return a deployment of `model`; a `meter` that an older deployment of the same key has goes on counting."""
    settings = shared.settings
    key = ModelKey(model.manifest.name, model.manifest.version)
    journal = None if shared.journal is None else shared.journal.of(model)
    kind = Batcher
    if shared.observer is not None:
        from batchproof.service.inference.timed_batcher import TimedBatcher

        kind = TimedBatcher
    batcher = kind(
        model.runner,
        shared.admission,
        shared.executor,
        inline_s=inline_s(settings),
        wait_s=settings.batch_wait_s,
        on_failure=partial(_log_failure, key),
        watch=_watch(model, key, shared, meter),
        recorder=journal,
        give_way=None if has_spare_core(settings) else os.sched_yield,
    )
    batcher.flow = meter.flow
    if shared.observer is not None:
        shared.observer.watch(batcher, key)
    if journal is not None:
        weakref.finalize(batcher, journal.retire).atexit = False
    own = _face(model, _Parts(batcher, meter, shared, journal))
    return Deployment(key, model, batcher, meter, own.endpoints, own.table, shared, journal)


def inline_s(settings: Settings) -> float:
    """Return the estimated time of the longest request that runs on the event loop."""
    if settings.inline_s:
        return settings.inline_s
    return INLINE_S_ALONE if has_spare_core(settings) else INLINE_S_SHARED


def has_spare_core(settings: Settings) -> bool:
    """Return whether this machine has a core more than the workers take."""
    return cores() > settings.workers


class _Parts(NamedTuple):
    """What all faces of a deployment share."""

    batcher: Batcher
    meter: ModelMeter
    shared: Shared
    journal: "ModelJournal | None"


def _face(model: Model, parts: _Parts, label: str = "") -> Face:
    return Face(_endpoints(model, parts, label), _table(model, parts, label))


def _endpoints(model: Model, parts: _Parts, label: str) -> dict[str, PredictEndpoint]:
    key, shared = ModelKey(model.manifest.name, model.manifest.version), parts.shared
    description = Description.of(model)
    endpoints: dict[str, PredictEndpoint] = {}
    for protocol in shared.protocols:
        codec = protocol.codec(model, shared.limits, label)
        make = partial(
            PredictEndpoint,
            key,
            protocol,
            codec,
            parts.batcher,
            parts.meter.tally(protocol.name),
            shared.settings.timeout_s,
            journal=parts.journal,
            drift=shared.drift.of(model.manifest, model.bundle.reference),
            executor=shared.reading_executor,
            make_remote=partial(_remote_codec, description, shared, protocol, codec, label),
        )
        endpoints[protocol.name] = endpoint = make()
        if shared.observer is not None:
            endpoint.observed = shared.observer.twin(*make.args, **make.keywords)
    return endpoints


def _remote_codec(
    model: Description, shared: Shared, protocol: WireProtocol, codec: Codec, label: str
) -> "RemoteCodec":
    """Return what stands for `codec` in other processes; it is loaded for the first large request."""
    from batchproof.service.server.serving.codecs.remote_codec import RemoteCodec

    make = partial(protocol.codec, model, shared.limits, label)
    return RemoteCodec(shared.codec_processes(), codec, make, model.manifest.signature, protocol.name)


def _table(model: Model, parts: _Parts, label: str) -> TableEndpoint:
    shared = parts.shared
    bounds = Bounds(shared.limits, shared.settings.max_table_bytes, shared.settings.timeout_s)
    workers = TableWorkers(
        parts.batcher,
        parts.meter.tally(TABLES),
        shared.table_executor,
        shared.settings.error_limit,
        shared.table_reader,
        shared.text_processes,
        parts.journal,
        shared.drift.of(model.manifest, model.bundle.reference),
    )
    return TableEndpoint(model, workers, shared.table_slots, bounds, label)


def _watch(model: Model, key: ModelKey, shared: Shared, meter: ModelMeter) -> Watch | None:
    if not shared.settings.audit_every:
        return None
    if meter.audit is None:
        meter.audit = Audit(shared.settings.audit_every)
    return Watch(model, meter.audit, shared.records, partial(shared.on_violation, key))


def _log_failure(key: ModelKey, error: EngineError) -> None:
    event("engine_failed", 40, model=key.name, version=key.version, reason=str(error))


def _tell(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]") -> None:
    """Set the future's result; called in any thread, when the last reference to the queue is gone."""

    def tell() -> None:
        if not future.done():
            future.set_result(None)

    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)
