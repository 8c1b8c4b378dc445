"""The gate: the rules that every request passes, over HTTP and gRPC, before its body is read and anything is served.

A rule looks at the head of a request and at what would answer it, and returns None or the error to refuse it with.
No route is exempt: a rule that lets probes pass says so itself. The first rule that refuses decides. Whoever asks the
gate words the error in the shape of the target's protocol and counts it: `server.http.router` and `server.grpc.server`.

A target over HTTP knows its model. A gRPC message names its model inside, so what a rule remembers of the caller in
`RequestHead.grant` is asked again when the message is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import WireProtocol
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.tables.streaming.endpoint import TableEndpoint

PageKind: TypeAlias = Literal["asset", "health", "metrics", "page", "preflight", "protocol", "web"]


class Page(NamedTuple):
    """What answers a request that predicts nothing; `page` is for people and has `asset` files, `web` is for programs."""

    kind: PageKind
    path: str  # without the prefix that a proxy put before it
    protocol: WireProtocol  # in whose shape it refuses


class RpcMethod(NamedTuple):
    """A method of the gRPC service, or a name that is none; which model it is for stands in its message."""

    name: str


Target: TypeAlias = PredictEndpoint | TableEndpoint | Page | RpcMethod
Rule: TypeAlias = Callable[[RequestHead, Target], ServiceError | None]


class Refusal(NamedTuple):
    """A request that is refused by its head, and what would have answered it."""

    error: ServiceError
    target: PredictEndpoint | TableEndpoint | Page


@dataclass(frozen=True)
class Gate:
    """The rules of one process, in the order in which they are asked.

    `unusual_rules` are about pages, and about what a plain prediction has not (`RequestHead.is_plain`: a query, an Origin, a
    long body, a table); they are not asked about one, which is most of all requests.
    """

    rules: tuple[Rule, ...] = ()
    unusual_rules: tuple[Rule, ...] = ()

    @property
    def plain_rule(self) -> Rule | None:
        """Return what decides on plain predictions as `check` does; None where no rule is about them."""
        if not self.rules:
            return None
        return self.rules[0] if len(self.rules) == 1 else self._check_plain

    def _check_plain(self, head: RequestHead, endpoint: Target) -> ServiceError | None:
        for rule in self.rules:
            error = rule(head, endpoint)
            if error is not None:
                return error
        return None

    def check(self, head: RequestHead, target: Target) -> ServiceError | None:
        """Return why the request is refused, or None where it may be served."""
        is_plain = head.is_plain and type(target) is PredictEndpoint
        for rule in self.rules if is_plain else (*self.rules, *self.unusual_rules):
            error = rule(head, target)
            if error is not None:
                return error
        return None
