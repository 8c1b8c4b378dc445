"""What a caller may do: its scopes, the models it may name, and until when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from batchproof.service.access.patterns import fits
from batchproof.service.access.quota import Account, Limits
from batchproof.service.errors import ServiceError

Scope = Literal["predict", "read", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
EVERY_MODEL = ("*",)
REMEMBERED_NAMES, REMEMBERED_LENGTH = 1000, 100  # of models that callers name: what they send must not fill the memory


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks for: any one of some scopes, and a model where it names one, or every model."""

    scopes: tuple[Scope, ...]
    model: str | None = None
    every_model: bool = False


class CallerCounts:
    """What one caller asked for."""

    __slots__ = ("refused", "requests", "rows")

    def __init__(self) -> None:
        """Start at zero."""
        self.requests = 0
        self.rows = 0
        self.refused = 0  # requests that its scopes, models or limits did not allow

    def snapshot(self) -> dict[str, int]:
        """Return the counts as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Grant:
    """What one caller may do. Each request reads it after the engine has filled the caches, so it is one small object."""

    name: str  # as counters and the access log show it; never a secret
    scopes: frozenset[str]
    models: tuple[str, ...] = EVERY_MODEL  # patterns, * for any text
    not_after_s: float | None = None  # seconds since 1970
    account: Account = field(default_factory=lambda: Account(Limits()), compare=False, repr=False)
    counts: CallerCounts = field(default_factory=CallerCounts, compare=False, repr=False)
    decided: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)  # model -> whether it is granted
    covers_every_model: bool = field(init=False, compare=False, repr=False)
    has_quota: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Note what is asked at each request."""
        object.__setattr__(self, "has_quota", not self.account.is_open)
        object.__setattr__(self, "covers_every_model", self.models == EVERY_MODEL)

    def check(self, need: Need) -> None:
        """Raise 403 where the grant does not cover what is needed."""
        if self.scopes.isdisjoint(need.scopes):
            has = ", ".join(sorted(self.scopes)) or "none"
            wanted = " or ".join(map(repr, need.scopes))
            raise ServiceError(403, "scope_missing", f"{self.name!r} needs the scope {wanted}; it has: {has}.")
        if need.model is not None:
            self.check_model(need.model)
        if need.every_model and not self.covers_every_model:
            raise ServiceError(
                403, "model_not_granted", f"This page is about all models, but {self.name!r} may use only some."
            )

    def check_model(self, model: str) -> None:
        """Raise 403 where the model is not granted, in the same words whether there is such a model or not."""
        if not self.covers(model):
            granted = ", ".join(self.models[:5]) + (", …" if len(self.models) > 5 else "")
            message = f"{self.name!r} is not allowed to use this model; it may use: {granted:.300}."
            raise ServiceError(403, "model_not_granted", message)

    def charge(self, rows: int, added: int = 0) -> None:
        """Charge the rows of an admitted request, of which `added` run for it without being sent, as explanations need."""
        if self.has_quota:
            self.account.charge(rows)
        self.counts.rows += rows - added

    def covers(self, model: str) -> bool:
        """Return whether the model is one of those granted."""
        if self.covers_every_model:
            return True
        known = self.decided.get(model)
        if known is None:
            known = any(fits(model, pattern) for pattern in self.models)
            if len(self.decided) < REMEMBERED_NAMES and len(model) <= REMEMBERED_LENGTH:
                self.decided[model] = known
        return known


def accounts(previous: Mapping[str, Account], limits: Mapping[str, Limits]) -> dict[str, Account]:
    """Return an account for each caller; one whose limits are as before goes on with the account that it has."""
    return {
        name: previous[name] if name in previous and previous[name].limits == wanted else Account(wanted)
        for name, wanted in limits.items()
    }
