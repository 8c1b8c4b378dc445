"""The composition root: settings to loaded models, one table of routes, and the state that all requests share."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.installation import hint
from batchproof.service import errors
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import BundleError, EngineError, ServiceError, SettingError, nearest
from batchproof.service.inference.catalogue import registry
from batchproof.service.inference.catalogue.registry import Registry, Snapshot
from batchproof.service.inference.catalogue.repository import Refusal
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.inference.engine import provider_of
from batchproof.service.inference.model import Model
from batchproof.service.protocols.cloud.explain import Version1Explain
from batchproof.service.protocols.cloud.protocol import AzureMachineLearning, Invocations, Version1, Vertex
from batchproof.service.protocols.interface import ServerInfo, WireProtocol, renamed
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.protocols.oip.protocol import OpenInference
from batchproof.service.runtime.change_counts import ReloadCounts
from batchproof.service.runtime.logs import event, unforeseen
from batchproof.service.runtime.metrics import Counters, ModelKey, as_plain, models_of
from batchproof.service.server.loading.loading import engine_options, load_model, trust_of
from batchproof.service.server.serving.deployment import Deployment, deploy
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.server.serving.shared import ModelMeter, Shared, observer_of
from batchproof.service.server.sockets.tls import tls_of
from batchproof.service.tables.streaming.endpoint import TableEndpoint

if TYPE_CHECKING:
    from batchproof.service.journal.writing.opening import ProcessJournal
    from batchproof.service.server.loading.reloader import ModelControl
    from batchproof.service.server.serving.authorization import Authorization

PROTOCOLS: tuple[type[WireProtocol], ...] = (
    *(Native, OpenInference, Invocations, Vertex, AzureMachineLearning),
    *(Version1, Version1Explain),
)


@dataclass(frozen=True)
class Routes:
    """What POST paths lead to. Never changed: it is replaced as a whole, and looked up anew for each request."""

    endpoints: Mapping[str, PredictEndpoint] = field(default_factory=dict)
    tables: Mapping[str, TableEndpoint] = field(default_factory=dict)  # where a table is sent or wanted


class App:
    """Everything that one process serves with. Made once; only the event loop changes it."""

    def __init__(
        self,
        settings: Settings,
        loaded: Registry,
        protocols: Sequence[WireProtocol] | None = None,
    ) -> None:
        """Deploy the models that loaded."""
        self.settings = settings
        self.protocols = tuple(protocols if protocols is not None else (protocol() for protocol in PROTOCOLS))
        models = [one for versions in loaded.models.values() for one in versions.values()]
        self.journal = _journal(settings, models)
        self.shared = Shared(settings, self.protocols, self._on_violation, self.journal, observer_of(settings))
        self.authorization = _authorization(settings)
        self.tls = tls_of(settings)
        self.meters: dict[ModelKey, ModelMeter] = {}  # of every model ever deployed: counters never fall
        self.counters = Counters(Path(settings.metrics_folder) if settings.metrics_folder else None, self.counts)
        self.tell_violation: Callable[[str, int, str], None] = lambda *_: None  # to the other workers
        self.is_stopping = False
        self.model_control: ModelControl | None = None  # how callers load and unload models
        self.reload_counts: ReloadCounts | None = None  # where this process decides what is served
        self.revision = 0  # how often the table of routes was replaced; what is derived from it compares this
        self.shadow_share = settings.shadow_share
        self.generation = 1  # of what is served, the same in all workers
        labelled = (self.deploy(one).with_labels(loaded.labels_of(*key_of(one))) for one in models)
        self.swap({deployment.key: deployment for deployment in labelled}, loaded)

    def deploy(self, loaded: Model) -> Deployment:
        """Return a deployment of a loaded model, ready for `replace`. May be called in any thread."""
        return deploy(loaded, self.shared, self.meters.setdefault(key_of(loaded), ModelMeter()))

    def replace(
        self, deployments: Mapping[ModelKey, Deployment], refusals: Sequence[Refusal] | None = None
    ) -> list["asyncio.Future[None]"]:
        """Serve these deployments and no others from the next request on; `refusals` are the bundles that failed.

        Requests that are under way stay on the deployment that their head met. Returns a future for each deployment
        that left: it is done when the last of its requests is answered and its engine is freed.
        """
        kept = {id(deployment.batcher) for deployment in deployments.values()}
        drained = [old.drained() for old in self.deployments.values() if id(old.batcher) not in kept]
        models: dict[str, dict[int, Model]] = {}
        for key, deployment in deployments.items():
            models.setdefault(key.name, {})[key.version] = deployment.model
        refused = self.registry.refusals if refusals is None else tuple(refusals)
        self.swap(deployments, Registry(models, refused))
        return drained

    def violated(self, name: str, version: int, sha256: str = "") -> None:
        """Show in fingerprints that this model, here or in another worker, broke its promise; withdraw it if set so.

        A model that is not served here, or was seen so before, changes nothing.
        """
        key = ModelKey(name, version)
        deployment = self.deployments.get(key)
        if deployment is None or deployment.model.is_violated or sha256 not in ("", deployment.model.manifest.sha256):
            return
        changed = self.registry.violated(name, version)
        deployment = deployment.with_verdict(changed.models[name][version])
        self.swap({**self.deployments, key: deployment}, changed)
        if self.settings.invariance != "report":
            deployment.withdraw()

    @property
    def server_info(self) -> ServerInfo:
        """Return what a protocol's own pages may show."""
        return ServerInfo(self.registry, self.default, self.is_ready, lambda: models_of(self.counters.total()))

    def counts(self) -> dict[str, Any]:
        """Return what this process has counted, as plain data."""
        models = as_plain({key: meter.counts() for key, meter in self.meters.items()})
        now = {"queue_rows": self.shared.admission.queued_rows, "workers": 1}
        callers = self.authorization.counts() if self.authorization else {}
        journal = {"journal": self.journal.counts()} if self.journal else {}
        reloads = {"reloads": self.reload_counts.snapshot()} if self.reload_counts else {}
        drift = self.shared.drift.counts()
        traced = self.shared.counts_of_traces(self.meters)
        return {"models": models, "callers": callers, "now": now, **journal, **reloads, "drift": drift, **traced}

    def unforeseen(self, what: str, error: BaseException | None, ids: Mapping[str, str] | None = None) -> ServiceError:
        """Log and count an error that nothing foresees; returns what to answer its caller with.

        `ids` are those of the request and its trace, where there is a request.
        """
        self.counters.events["unforeseen_errors"] += 1
        unforeseen(what, error, **(ids or {}))
        return errors.internal()

    @property
    def is_stuck(self) -> bool:
        """Whether a run of the engine may never end: this process answers no large request any more."""
        return any(deployment.batcher.is_stuck for deployment in self.deployments.values())

    def begin_stop(self) -> None:
        """Go unready for good; requests are still answered."""
        self.is_stopping = True
        self.is_ready = False

    async def drain(self) -> None:
        """Go unready, admit nothing more and wait until every admitted row is answered, or drain_s has passed."""
        self.begin_stop()
        empty = asyncio.Event()
        self.shared.admission.drain(empty.set)
        try:
            async with asyncio.timeout(self.settings.drain_s):
                await empty.wait()
                if self.journal is not None:
                    await self.journal.flush()
        except TimeoutError:
            event("drain_timed_out", 30, rows=self.shared.admission.queued_rows)

    def close(self) -> None:
        """Let the threads end."""
        self.shared.close()

    def swap(self, deployments: Mapping[ModelKey, Deployment], changed: Registry, routes: Routes | None = None) -> None:
        """Take requests for these deployments: routes are made first and then replaced in one assignment."""
        self.default = default_name(self.settings, changed)
        if routes is None:
            routes = self.routes_of(deployments, changed)
        self.registry, self.deployments, self.routes = changed, deployments, routes
        for key, deployment in deployments.items():
            version = changed.shadows.get(key.name)
            is_champion = version != key.version and changed.newest(key.name) is deployment.model
            challenger = changed.models[key.name].get(version) if is_champion and version else None
            deployment.compare_with(challenger, self.shadow_share)
        self.revision += 1
        is_withdrawn = self.settings.invariance != "report" and any(
            deployment.model.is_violated for deployment in deployments.values()
        )
        self.is_ready = bool(deployments) and not is_withdrawn and not self.is_stopping

    def routes_of(self, deployments: Mapping[ModelKey, Deployment], changed: Registry) -> Routes:
        """Return the table of routes of these deployments. May be called in any thread."""
        default = default_name(self.settings, changed)
        return make_routes(deployments.values(), changed, default, self.settings)

    def real_name(self, name: str) -> str:
        """Return the name of the model that a caller's name means: the alias stands for the default model."""
        is_alias = name == self.settings.default_model_alias and name not in self.registry.models
        return self.default if is_alias and self.default else name

    def real_path(self, path: str) -> str:
        """Return the path with the alias of the default model replaced by its name."""
        return renamed(path, self.real_name) if self.settings.default_model_alias else path

    def _on_violation(self, key: ModelKey) -> None:
        """Act on a violation that this worker saw."""
        deployment = self.deployments.get(key)
        if deployment is not None and not deployment.model.is_violated:
            self.violated(*key)
            self.tell_violation(*key, deployment.model.manifest.sha256)


def key_of(loaded: Model) -> ModelKey:
    """Return the key of a loaded model."""
    return ModelKey(loaded.manifest.name, loaded.manifest.version)


def make_routes(deployments: Iterable[Deployment], models: Registry, default: str | None, settings: Settings) -> Routes:
    """Return the table of routes: also with the default model's alias, and again behind the prefix of a proxy."""
    endpoints: dict[str, PredictEndpoint] = {}
    tables: dict[str, TableEndpoint] = {}
    for deployment in deployments:
        name = deployment.key.name
        is_default, is_newest = name == default, models.newest(name) is deployment.model
        endpoints |= deployment.paths(is_default=is_default, is_newest=is_newest) | deployment.label_paths()
        table_paths = deployment.table_paths(is_default=is_default, is_newest=is_newest)
        tables |= dict.fromkeys(table_paths, deployment.table) | deployment.label_tables()
    if settings.default_model_alias and default is not None:
        alias = lambda name: settings.default_model_alias if name == default else name  # noqa: E731
        endpoints = {renamed(path, alias): endpoint for path, endpoint in endpoints.items()} | endpoints
        tables = {renamed(path, alias): table for path, table in tables.items()} | tables
    if prefix := settings.root_path:
        endpoints |= {prefix + path: endpoint for path, endpoint in endpoints.items()}
        tables |= {prefix + path: table for path, table in tables.items()}
    return Routes(endpoints, tables)


def take_snapshot(settings: Settings) -> Snapshot:
    """Read the bundles that are to be served; raises SettingError where the folder cannot be read."""
    try:
        return registry.take_snapshot(settings.models, Selection.of(settings), trust=trust_of(settings))
    except BundleError as error:
        raise SettingError(f"{error}.") from error


def load(settings: Settings, snapshot: Snapshot | None = None) -> App:
    """Load and verify the models, of a `snapshot` of their folder where there is one.

    Raises SettingError where the service cannot serve any request as it was told to.
    """
    load_one = partial(load_model, settings)
    try:
        provider_of(engine_options(settings))  # no model could run on a device that is not there
        loaded = registry.load(
            settings.models, load_one, Selection.of(settings), trust=trust_of(settings), snapshot=snapshot
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


def _authorization(settings: Settings) -> "Authorization | None":
    """Return who may call; None where everybody may. Raises SettingError."""
    if not settings.wants_keys:
        return None
    from batchproof.service.server.serving.authorization import Authorization

    tokens = None
    if settings.jwt_issuer:
        for name in ("jwt_audience", "jwt_keys"):
            if not getattr(settings, name):
                raise SettingError(f"jwt_issuer needs {name} too.")
        try:
            from batchproof.service.access.tokens import TokenVerifier
        except ImportError as error:
            raise SettingError(f"jwt_issuer needs PyJWT, which is not installed: {hint('jwt')}") from error
        tokens = TokenVerifier(settings.jwt_issuer, settings.jwt_audience, settings.jwt_keys)
    return Authorization(settings, tokens)


def _journal(settings: Settings, models: Sequence[Model]) -> "ProcessJournal | None":
    """Open the journal; None where nothing is kept. Raises SettingError."""
    if not settings.journal and not settings.journal_upload:
        return None
    from batchproof.service.journal.writing.opening import ProcessJournal

    return ProcessJournal(settings, models)


def default_name(settings: Settings, loaded: Registry) -> str | None:
    """Return the model that plain /predict answers for, if there is one."""
    if settings.default_model:
        return settings.default_model
    return next(iter(loaded.models), None) if len(loaded.names) == 1 else None  # a refusal does not choose another
