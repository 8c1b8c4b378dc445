"""The gate's rules about callers: who has which key, and which page or model it opens.

Without a key `/health/live` and the probes of platforms answer, `/health/ready` says true or false, pages for people come
without what they show, and what the setting `public` opens. Everything else needs a scope: predictions `predict`, descriptions of a model `predict` or `read`, pages
about all models `read`, metrics `metrics`, and changing what is served, or looking into the journal, `admin`.
"""

import re
from pathlib import Path
from threading import Lock

from batchproof.service.access.credentials import Access, Tokens
from batchproof.service.access.grant import Need
from batchproof.service.access.key_ring import KeyRing
from batchproof.service.access.watched_file import WatchedFile
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError, SettingError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.runtime.logs import event
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.server.serving.gate import Page, RpcMethod, Target
from batchproof.service.tables.streaming.endpoint import TableEndpoint

ANY_MODEL = Need(("read",), every_model=True)
METRICS = Need(("metrics",), every_model=True)
ADMIN = Need(("admin",))
JOURNAL = Need(("admin",), every_model=True)  # rows of every caller, which are personal data
MODEL_PATH = re.compile(r"/(?:v[12]/)?models/([^/:]+)")
CONTENT_PATH = re.compile(r"/report$|/versions/[^/]+/bundle/")
BUNDLE_PATH = re.compile(r"/models/[^/:]+/versions/[^/]+/bundle/")
REPOSITORY_PATH = re.compile(r"/v2/repository/models/(?P<name>.+)/(?:load|unload)", re.DOTALL)
PROBES = frozenset({"/ping", "/health", "/v2/health/live", "/v2/health/ready"})
OPEN_KINDS = ("asset", "health", "page", "preflight")  # pages and their files say nothing about what is served
HEALTH_METHODS = frozenset({"ServerLive", "ServerReady", "Check", "Watch"})
ADMIN_METHODS = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
CREDENTIALS = (b"authorization", b"x-api-key")


class Authorization:
    """The keys and tokens in force, and the rules that they make. Only the event loop changes it."""

    def __init__(self, settings: Settings, tokens: Tokens | None = None) -> None:
        """Read the keys of the settings; raises SettingError."""
        self._path = Path(settings.keys_file) if settings.keys_file else None
        self._workers = settings.workers
        self._public = frozenset(settings.public)
        self._tokens = tokens
        self._file = WatchedFile(self._path) if self._path else None
        self._refreshing = Lock()  # or what was read first could be put into force last
        self._keys = _read_keys(self._path, None, settings.workers) if self._path else None
        self._access = Access(self._keys, tokens)

    def rule(self, head: RequestHead, target: Target) -> ServiceError | None:
        """Return why the caller may not have what it asks for: 401, 403 or 429; remember who calls."""
        if type(target) is PredictEndpoint:
            known = self._access.recall(head.headers, head.special)
            if known is not None and (known.covers_every_model or known.covers(target.key.name)):
                head.grant = known
                known.counts.requests += 1
                return None
        need = self.need(target)
        certified = () if head.sender is None else head.sender.names
        try:
            if need is not None or certified or any(name in head.special for name in CREDENTIALS):
                head.grant = self._access.identify(head.headers, certified)  # a refusal too is logged with its caller
            if need is not None and head.grant is not None:
                self._access.admit(head.grant, need)
        except ServiceError as error:
            if need is not None:  # else it is a probe, which is answered whatever it sends, only more briefly
                return error
        return None

    def need(self, target: Target) -> Need | None:
        """Return what a request needs; None where everybody may have it."""
        if isinstance(target, PredictEndpoint | TableEndpoint):
            return Need(("predict",), target.key.name)
        if isinstance(target, RpcMethod):
            if target.name in HEALTH_METHODS:
                return None
            if target.name in ADMIN_METHODS:
                return ADMIN
            return Need(("predict",)) if target.name == "ModelInfer" else Need(("read", "predict"))
        return self._page_need(target)

    def refresh(self, *, at_once: bool = False) -> None:
        """Read the file of keys again where it changed; a broken one is logged, and the keys in force stay. Blocks.

        `at_once`: also where it did not change. Called in any thread.
        """
        with self._refreshing:
            if self._tokens is not None:
                self._tokens.refresh(at_once=at_once)
            if self._path is None or self._file is None:
                return
            if self._file.is_due(at_once=at_once):
                self._read_again(self._path)

    def _read_again(self, path: Path) -> None:
        try:
            self._keys = _read_keys(path, self._keys, self._workers)
        except SettingError as error:
            event("keys_not_read", 40, reason=str(error))
            return
        self._access = Access(self._keys, self._tokens)
        event("keys_read", keys=len(self._keys))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return what each caller asked for, as plain data."""
        return {name: counts.snapshot() for name, counts in (self._keys.counts if self._keys else {}).items()}

    def _page_need(self, page: Page) -> Need | None:
        probes = {*PROBES, page.protocol.probe_path} - {""}
        if page.kind in OPEN_KINDS or page.path in probes:
            return None
        if page.kind == "metrics":
            return None if "metrics" in self._public else METRICS
        if (need := _admin_need(page.path)) is not None:
            return need
        named = MODEL_PATH.match(page.path)
        is_content = page.kind == "web" and CONTENT_PATH.search(page.path) is not None
        if page.kind == "protocol" or (named and not is_content) or page.path == "/models":
            return None if "models" in self._public else Need(("read", "predict"), named[1] if named else None)
        if named:
            # The files of a bundle are the model: public descriptions do not open them.
            is_public = "models" in self._public and not BUNDLE_PATH.match(page.path)
            return None if is_public else Need(("read",), named[1])
        return None if "docs" in self._public else ANY_MODEL


def _admin_need(path: str) -> Need | None:
    """Return what a path needs that only administrators may have; None for others."""
    if path == "/journal" or path.startswith("/journal/"):
        return JOURNAL
    named = REPOSITORY_PATH.fullmatch(path)
    return Need(("admin",), named[1]) if named else None


def _read_keys(path: Path, previous: KeyRing | None, workers: int) -> KeyRing:
    """Read the file of keys; what reads it loads only where there is one."""
    from batchproof.service.access import keys_file

    return keys_file.read(path, previous, workers)
