"""The composition root: settings to loaded models, one table of routes, and the state that all requests share."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.installation import hint
from batchproof.service import errors
from batchproof.service.bundle.reader import Bundle
from batchproof.service.bundle.signing.trust import TrustPolicy, trust_policy
from batchproof.service.errors import BundleError, EngineError, SettingError, nearest
from batchproof.service.inference import model, registry
from batchproof.service.inference.engine import EngineOptions, provider_of
from batchproof.service.inference.model import Model
from batchproof.service.inference.registry import Registry, Snapshot
from batchproof.service.inference.repository import Refusal
from batchproof.service.inference.selection import Selection
from batchproof.service.inference.trial import TrialLimits
from batchproof.service.invariance.check import for_bundles
from batchproof.service.invariance.worker_agreement import agree
from batchproof.service.logs import event
from batchproof.service.metrics import Counters, ModelKey, as_plain, models_of
from batchproof.service.protocols.cloud.explain import Version1Explain
from batchproof.service.protocols.cloud.protocol import AzureMachineLearning, Invocations, Version1, Vertex
from batchproof.service.protocols.interface import ServerInfo, WireProtocol
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.protocols.oip.protocol import OpenInference
from batchproof.service.server import authorization
from batchproof.service.server.authorization import Authorization
from batchproof.service.server.deployment import Deployment, ModelMeter, Shared, deploy
from batchproof.service.server.endpoint import PredictEndpoint
from batchproof.service.server.tls import tls_of
from batchproof.service.settings import Settings
from batchproof.service.tables.streaming.endpoint import TableEndpoint

if TYPE_CHECKING:
    from batchproof.service.journal.opening import ProcessJournal

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

    def __init__(self, settings: Settings, loaded: Registry, protocols: Sequence[WireProtocol] | None = None) -> None:
        """Deploy the models that loaded."""
        self.settings = settings
        self.protocols = tuple(protocols if protocols is not None else (protocol() for protocol in PROTOCOLS))
        models = [one for versions in loaded.models.values() for one in versions.values()]
        self.journal = _journal(settings, models)
        self.shared = Shared(settings, self.protocols, self._on_violation, self.journal)
        self.authorization = _authorization(settings)
        self.tls = tls_of(settings)
        self.meters: dict[ModelKey, ModelMeter] = {}  # of every model ever deployed: counters never fall
        self.counters = Counters(Path(settings.metrics_folder) if settings.metrics_folder else None, self.counts)
        self.tell_violation: Callable[[str, int], None] = lambda _name, _version: None  # to the other workers
        self.is_stopping = False
        self.generation = 0  # how often the table of routes was made; what is derived from it compares this
        self._swap({deployment.key: deployment for deployment in map(self.deploy, models)}, loaded)

    def deploy(self, loaded: Model) -> Deployment:
        """Return a deployment of a loaded model, ready for `replace`. May be called in any thread."""
        key = ModelKey(loaded.manifest.name, loaded.manifest.version)
        return deploy(loaded, self.shared, self.meters.setdefault(key, ModelMeter()))

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
        self._swap(deployments, Registry(models, refused))
        return drained

    def violated(self, name: str, version: int) -> None:
        """Show in fingerprints that this model, here or in another worker, broke its promise; withdraw it if set so.

        A model that is not served here, or was seen so before, changes nothing.
        """
        key = ModelKey(name, version)
        deployment = self.deployments.get(key)
        if deployment is None or deployment.model.is_violated:
            return
        changed = self.registry.violated(name, version)
        deployment = deployment.with_verdict(changed.models[name][version])
        self._swap({**self.deployments, key: deployment}, changed)
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
        return {"models": models, "callers": callers, "now": now, **journal}

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

    def _swap(self, deployments: Mapping[ModelKey, Deployment], changed: Registry) -> None:
        """Take requests for these deployments: routes are made first and then replaced in one assignment."""
        default = default_name(self.settings, changed)
        routes = make_routes(deployments.values(), changed, default, self.settings.root_path)
        self.registry, self.default, self.deployments = changed, default, deployments
        self.routes = routes
        self.generation += 1
        is_withdrawn = self.settings.invariance != "report" and any(
            deployment.model.is_violated for deployment in deployments.values()
        )
        self.is_ready = bool(deployments) and not is_withdrawn and not self.is_stopping

    def _on_violation(self, key: ModelKey) -> None:
        """Act on a violation that this worker saw."""
        deployment = self.deployments.get(key)
        if deployment is not None and not deployment.model.is_violated:
            self.violated(*key)
            self.tell_violation(*key)


def make_routes(deployments: Iterable[Deployment], models: Registry, default: str | None, prefix: str) -> Routes:
    """Return the table of routes; every path is there twice where a proxy puts `prefix` before it."""
    endpoints: dict[str, PredictEndpoint] = {}
    tables: dict[str, TableEndpoint] = {}
    for deployment in deployments:
        name = deployment.key.name
        is_default, is_newest = name == default, models.newest(name) is deployment.model
        endpoints |= deployment.paths(is_default=is_default, is_newest=is_newest)
        table_paths = deployment.table_paths(is_default=is_default, is_newest=is_newest)
        tables |= dict.fromkeys(table_paths, deployment.table)
    if prefix:
        endpoints |= {prefix + path: endpoint for path, endpoint in endpoints.items()}
        tables |= {prefix + path: table for path, table in tables.items()}
    return Routes(endpoints, tables)


def take_snapshot(settings: Settings) -> Snapshot:
    """Read the bundles that are to be served; raises SettingError where the folder cannot be read."""
    try:
        return registry.take_snapshot(settings.models, Selection.of(settings), trust=_trust(settings))
    except BundleError as error:
        raise SettingError(f"{error}.") from error


def load(settings: Settings, snapshot: Snapshot | None = None) -> App:
    """Load and verify the models, of a `snapshot` of their folder where there is one; raises SettingError where the service cannot serve any request as it was told to."""
    options = EngineOptions(settings.device, settings.threads)
    load_one = partial(_load_model, settings, options)
    try:
        provider_of(options)  # no model could run on a device that is not there
        loaded = registry.load(
            settings.models, load_one, Selection.of(settings), trust=_trust(settings), snapshot=snapshot
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


def _authorization(settings: Settings) -> Authorization | None:
    """Return who may call; None where everybody may. Raises SettingError."""
    if not authorization.is_wanted(settings):
        return None
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
    if not settings.journal:
        return None
    from batchproof.service.journal.opening import ProcessJournal

    return ProcessJournal(settings, models)


def default_name(settings: Settings, loaded: Registry) -> str | None:
    """Return the model that plain /predict answers for, if there is one."""
    if settings.default_model:
        return settings.default_model
    return next(iter(loaded.models), None) if len(loaded.names) == 1 else None  # a refusal does not choose another


def _load_model(settings: Settings, options: EngineOptions, bundle: Bundle) -> Model:
    if bundle.unsigned is not None:
        event("unsigned_model", 30, model=bundle.manifest.name, version=bundle.manifest.version, reason=bundle.unsigned)
    limits = TrialLimits(settings.load_memory_bytes, settings.load_timeout_s)
    loaded = model.load(bundle, options, settings.run_rows, for_bundles(settings.invariance), limits)
    if loaded.verification is not None:
        verdict = loaded.verification
        event(
            "model_loaded",
            30 if verdict.status == "reported" else 20,
            model=loaded.manifest.name,
            version=loaded.manifest.version,
            invariance=verdict.status,
            verify_s=round(verdict.seconds, 4),
            what=verdict.sentence,
            **({"signer": bundle.signer} if bundle.signer else {}),
        )
        if settings.metrics_folder and settings.invariance != "report":
            agree(Path(settings.metrics_folder), loaded.manifest.sha256, verdict)
    return loaded
