"""From the head of a request to what answers it: a prediction, a table, a page or a refusal.

Both ways into the service over HTTP, the fast one on a connection and the ASGI application, ask `Router.resolve` once
for each request, before its body is read. A plain prediction costs one look-up in the table of routes.
"""

import time
from typing import TYPE_CHECKING, Any

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer, WireProtocol
from batchproof.service.runtime.logs import event
from batchproof.service.runtime.tracing.context import PARENT_HEADER, is_sampled
from batchproof.service.server.http.cors import Origins
from batchproof.service.server.http.monitoring.access_log import log_answer
from batchproof.service.server.http.monitoring.health import OPTIONS_PATHS
from batchproof.service.server.http.senders import Senders
from batchproof.service.server.serving.app import App
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.server.serving.gate import Gate, Page, PageKind, Refusal
from batchproof.service.tables.formats import wants_table
from batchproof.service.tables.streaming.endpoint import TableEndpoint

if TYPE_CHECKING:
    from batchproof.service.server.serving.observing.observer import Observer

Resolved = PredictEndpoint | TableEndpoint | Page | Refusal
TARGET_KEY = "batchproof.target"  # where an ASGI scope holds what its request was resolved to
HEALTH = ("/health/live", "/health/ready")


class Router:
    """The routes of one process behind its gate."""

    def __init__(self, app: App, gate: Gate) -> None:
        """Look up in the routes that `app` has at the time of each request, and let `gate` decide on each."""
        self.app = app
        self.gate = gate
        self._plain_rule = gate.plain_rule
        self.observer = app.shared.observer
        self.senders = Senders(app.settings, is_observed=self.observer is not None)
        self.origins = Origins(app.settings.allowed_origins)

    def resolve(self, head: RequestHead) -> Resolved:
        """Return what answers the request, or its refusal by the gate or for its method."""
        if head.is_plain and head.method == "POST":  # as `locate`, in one step
            endpoint = self.app.routes.endpoints.get(head.path)
            if endpoint is not None:
                rule = self._plain_rule
                if rule is None or (error := rule(head, endpoint)) is None:
                    return endpoint
                return Refusal(error, endpoint)
        place = self.locate(head)
        target = place.target if isinstance(place, Refusal) else place
        error = self.gate.check(head, target)
        return place if error is None else Refusal(error, target)

    def locate(self, head: RequestHead) -> Resolved:
        """Return what would answer the request, without asking the gate."""
        routes, path = self.app.routes, without_slash(head.path)
        endpoint = routes.endpoints.get(path)
        if endpoint is None or head.method != "POST":
            return self._page(head, is_predict_route=endpoint is not None)
        if wants_table(head.special):
            return routes.tables.get(path, endpoint)
        return endpoint

    def refusal(self, head: RequestHead, error: ServiceError) -> Refusal:
        """Return the refusal of a request whatever it asks for, without asking the gate."""
        place = self.locate(head)
        return Refusal(error, place.target if isinstance(place, Refusal) else place)

    def refuse(self, head: RequestHead, refusal: Refusal) -> Answer:
        """Return the answer in the shape of the target's protocol, counted and logged."""
        error, target = refusal
        if isinstance(target, PredictEndpoint):
            return target.refuse(error, head)
        started_s = time.perf_counter()
        if isinstance(target, TableEndpoint):
            target.count_refusal(error)
        answer = self.failure(head, error, target)
        if self.observer is not None:
            log_answer(self.observer, head, answer, started_s, error.code)
        return answer

    def failure(self, head: RequestHead, error: ServiceError, target: TableEndpoint | Page) -> Answer:
        """Return the answer in the shape of the target's protocol; what is not the caller's fault is logged."""
        protocol = target.protocol if isinstance(target, Page) else self.app.protocols[0]
        if error.status >= 500 and error.code != errors.UNFORESEEN:
            event("request_failed", 40, **head.ids, route=protocol.name, code=error.code)
        return protocol.failure(error, head.request_id)

    def _page(self, head: RequestHead, *, is_predict_route: bool) -> Page | Refusal:
        """Return the page of a path, or the refusal of a method that the path has not."""
        path = self.app.real_path(without_slash(self._without_prefix(head.path)))
        protocol = self._claiming(path)
        if head.method == "OPTIONS" and self.origins.headers(head):
            return Page("preflight", path, protocol or self.app.protocols[0])
        if head.method == "OPTIONS" and path in OPTIONS_PATHS:
            return Page("health", path, self.app.protocols[0])
        is_probe = protocol is not None and path == protocol.probe_path and head.method in ("GET", "HEAD")
        if is_predict_route and not is_probe:
            message = f"Method {head.method:.20} not allowed; use POST."
            error = ServiceError(405, "method_not_allowed", message, allow="POST")
            return Refusal(error, Page("protocol", path, protocol or self.app.protocols[0]))
        if path in HEALTH:
            return Page("health", path, self.app.protocols[0])
        kind = self._kind(head, path) if protocol is None else "protocol"
        return Page(kind, path, protocol or self.app.protocols[0])

    def _kind(self, head: RequestHead, path: str) -> PageKind:
        """Return what is at a path that no protocol claims: a page for people, one of its files, or what programs read."""
        if path == "/metrics":
            return "metrics"
        if not self.app.settings.pages or head.method not in ("GET", "HEAD"):
            return "web"
        from batchproof.service.server.web.pages.addresses import ASSET, address_of

        if ASSET.fullmatch(path):
            return "asset"
        address = address_of(path, head.special.get(b"accept"))
        return "page" if address is not None and address.is_wanted else "web"

    def _claiming(self, path: str) -> WireProtocol | None:
        """Return the last protocol that claims `path`: as in the table of routes, a later one wins."""
        return next((protocol for protocol in reversed(self.app.protocols) if protocol.claims(path)), None)

    def _without_prefix(self, path: str) -> str:
        """Return the path without the prefix that a proxy put before it."""
        prefix = self.app.settings.root_path
        return path.removeprefix(prefix) if path.startswith(prefix + "/") else path


class ObservingRouter(Router):
    """A router that notes which requests are traced or logged, as soon as their heads are there."""

    def __init__(self, app: App, gate: Gate, observer: "Observer") -> None:
        """Let `observer` see each request first."""
        super().__init__(app, gate)
        self._begin = observer.begin
        self._follows_header = observer.follows_header

    def resolve(self, head: RequestHead) -> Resolved:
        """Return what answers the request, or its refusal."""
        if self._follows_header and not is_sampled(head.special.get(PARENT_HEADER)):
            return Router.resolve(self, head)  # most requests come here, and super() costs more than the look
        seen = self._begin(head)
        resolved = super().resolve(head)
        return resolved if seen is None else _observed(resolved)

    def refuse(self, head: RequestHead, refusal: Refusal) -> Answer:
        """Return the answer; a request that was broken before it was resolved begins and ends here."""
        if not hasattr(head, "observation"):
            self._begin(head)
        return super().refuse(
            head, refusal if head.seen is None else refusal._replace(target=_observed(refusal.target))
        )


def _observed(resolved: Any) -> Any:
    """Return what serves a request that is observed in place of what serves others."""
    return resolved.observed or resolved if isinstance(resolved, PredictEndpoint) else resolved


def router_of(app: App, gate: Gate) -> Router:
    """Return the router of a process, which observes its requests where that is asked for."""
    observer = app.shared.observer
    return Router(app, gate) if observer is None else ObservingRouter(app, gate, observer)


def without_slash(path: str) -> str:
    """Return a path without the slashes at its end: /predict/ is /predict for every route."""
    return path.rstrip("/") or "/" if path.endswith("/") else path
