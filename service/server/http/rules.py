"""The rules that every service has at its gate: foreign pages, query parameters, the length of a body."""

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from batchproof.service import errors
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import LONG_BODY_DIGITS, RequestHead
from batchproof.service.protocols.native.protocol import FIELDS, Native
from batchproof.service.server.http.cors import Origins
from batchproof.service.server.http.hosts import Hosts
from batchproof.service.server.serving.endpoint import PredictEndpoint
from batchproof.service.server.serving.gate import Gate, Rule, Target
from batchproof.service.tables.parameters import CHOICES, parse

if TYPE_CHECKING:
    from batchproof.service.server.serving.authorization import Authorization

IN_THE_BODY = frozenset(FIELDS) - {*CHOICES}


def standard_gate(settings: Settings, authorization: "Authorization | None" = None) -> Gate:
    """Return the gate of a service with these settings; with `authorization` callers need a key or token."""
    length, hosts = BodyLength(settings.max_body_bytes).rule, Hosts(settings)
    is_about_plain = settings.max_body_bytes < 10 ** (LONG_BODY_DIGITS - 1)  # a limit that plain bodies may pass
    rules: list[Rule] = [hosts.rule] if hosts.is_explicit else []
    unusual_rules: list[Rule] = [] if hosts.is_explicit else [hosts.rule]
    unusual_rules += [Origins(settings.allowed_origins).rule, check_query, length]
    if authorization is not None:  # before what the caller asks for is looked at any closer
        rules.append(authorization.rule)
    if is_about_plain:
        rules.append(length)
    return Gate(tuple(rules), tuple(unusual_rules))


def check_query(head: RequestHead, target: Target) -> ServiceError | None:
    """Refuse, with 400, what the URL of a native JSON request may not say behind its path.

    The parameters of tables pass, since the routes are documented with them and they change nothing here. A field of
    the body or an unknown name is refused, because the caller must believe that it changes the answer.
    """
    if not head.query or not isinstance(target, PredictEndpoint) or not isinstance(target.protocol, Native):
        return None
    try:
        for name, _ in parse_qsl(head.query.decode("latin-1"), keep_blank_values=True):
            if name in IN_THE_BODY:
                example = f'{{"rows": [...], "{name}": ...}}'
                message = f"{name} belongs in the JSON body, not in the URL: {example}."
                return ServiceError(400, "invalid_parameter", message)
        parse(head.query)
    except ServiceError as error:
        return error
    return None


class BodyLength:
    """How long a body may be that is read whole; a table has a limit of its own, on what it unpacks to."""

    def __init__(self, limit_bytes: int) -> None:
        """Allow bodies of up to `limit_bytes`."""
        self._limit_bytes = limit_bytes

    def rule(self, head: RequestHead, target: Target) -> ServiceError | None:
        """Refuse, with 413, a prediction whose Content-Length is beyond the limit."""
        if head.content_length > self._limit_bytes and isinstance(target, PredictEndpoint):
            return errors.body_too_large(self._limit_bytes)
        return None
