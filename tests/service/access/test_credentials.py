"""Who calls, and whether that caller may: keys, scopes, models, quotas, time."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.access.credentials import Access, Headers
from batchproof.service.access.grant import Grant, Need
from batchproof.service.access.key_ring import KeyRing
from batchproof.service.access.quota import Account, Bucket, Limits
from batchproof.service.errors import ServiceError

KEY = b"bp_the-key"


class Ring(KeyRing):
    """One key."""

    def __init__(self, grant: Grant) -> None:
        super().__init__({}, {})
        self._one = grant

    def grant(self, key: bytes) -> Grant | None:
        """Return the one grant for its key."""
        return self._one if key == KEY else None


def access(**changed: Any) -> Access:
    return Access(Ring(Grant(**{"name": "ada", "scopes": frozenset({"predict"}), **changed})))


def admit(checked: Access, headers: Headers, need: Need | None = None) -> Grant:
    grant = checked.identify(headers)
    checked.admit(grant, need or Need(("predict",)))
    return grant


def refusal(checked: Access, headers: dict[bytes, bytes], need: Need | None = None) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        admit(checked, [*headers.items()], need)
    return caught.value


@pytest.mark.parametrize(
    "headers",
    [{b"authorization": b"Bearer " + KEY}, {b"authorization": b"bearer  " + KEY}, {b"x-api-key": KEY},
     {b"authorization": b"Bearer " + KEY, b"x-api-key": KEY}],
)  # fmt: skip
def test_a_key_comes_in_either_header(headers: dict[bytes, bytes]) -> None:
    """`Authorization: Bearer KEY` and `X-API-Key: KEY` mean the same."""
    assert admit(access(), [*headers.items()]).name == "ada"


@pytest.mark.parametrize(
    "headers",
    [{}, {b"authorization": KEY}, {b"authorization": b"Basic eHk6eg=="}, {b"authorization": b"Bearer "},
     {b"x-api-key": b"bp_other"}, {b"x-api-key": b""}, {b"authorization": b"Bearer " + KEY, b"x-api-key": b"bp_other"},
     {b"x-api-key": b"x" * 9000}, {b"authorization": b"Bearer \xff"}],
)  # fmt: skip
def test_no_key_is_401(headers: dict[bytes, bytes]) -> None:
    """No key, another scheme, an unknown key or two different keys: 401 with WWW-Authenticate, and no key in the text."""
    error = refusal(access(), headers)

    assert (error.status, error.code) == (401, "unauthorized")
    assert (b"www-authenticate", b'Bearer realm="batchproof"') in error.headers
    assert "bp_" not in error.message


def test_an_expired_key_is_401() -> None:
    """A key is refused from the moment that its validity has passed."""
    assert "has expired" in refusal(access(not_after_s=time.time() - 1), {b"x-api-key": KEY}).message
    assert admit(access(not_after_s=time.time() + 60), [(b"x-api-key", KEY)]).name == "ada"


def test_scope_and_model_are_403() -> None:
    """A key without the scope, or without the model, is 403, and the sentence says what is missing."""
    limited = access(models=("price-*", "penguins"))
    error = refusal(limited, {b"x-api-key": KEY}, Need(("admin",)))
    assert (error.status, error.code) == (403, "scope_missing")
    assert "'admin'" in error.message
    error = refusal(limited, {b"x-api-key": KEY}, Need(("predict",), "flowers"))
    assert (error.status, error.code) == (403, "model_not_granted")
    for model in ("price-nl", "penguins"):
        assert admit(limited, [(b"x-api-key", KEY)], Need(("predict",), model)).name == "ada"


def test_requests_over_quota_are_429() -> None:
    """A caller gets its requests a second at once, then 429 with the seconds to wait, then as many as were refilled."""
    now = [0.0]
    account = Account(Limits(requests_per_s=2), lambda: now[0])
    limited = access(account=account)
    for _ in range(2):
        admit(limited, [(b"x-api-key", KEY)])
    error = refusal(limited, {b"x-api-key": KEY})
    assert (error.status, error.code, error.retry_after_s) == (429, "over_quota", 1)
    now[0] = 0.5
    admit(limited, [(b"x-api-key", KEY)])
    assert refusal(limited, {b"x-api-key": KEY}).status == 429


def test_rows_are_charged_afterwards() -> None:
    """Rows are charged once they are known; an overdrawn caller waits until it is refilled."""
    now = [0.0]
    account = Account(Limits(rows_per_s=100), lambda: now[0])
    account.admit()
    account.charge(300)
    with pytest.raises(ServiceError) as caught:
        account.admit()
    assert caught.value.retry_after_s == 2
    now[0] = 2.01
    account.admit()


@given(st.floats(0.1, 1e6), st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1e4)), max_size=30))
def test_a_bucket_never_gives_more_than_its_rate(per_s: float, steps: list[tuple[float, float]]) -> None:
    """However requests come, what is taken only when it is there is at most one burst and the rate times the time."""
    now = [0.0]
    bucket = Bucket(per_s, lambda: now[0])
    taken = 0.0
    for wait_s, units in steps:
        now[0] += wait_s
        if bucket.wait_s(units) == 0:
            bucket.take(units)
            taken += units
    assert taken <= max(per_s, 1.0) + per_s * now[0] * (1 + 1e-9) + 1e-6


@pytest.mark.parametrize(
    "other", [(b"authorization", b"Bearer bp_other"), (b"x-api-key", b"bp_other"), (b"authorization", b"Basic eHk=")]
)
def test_every_credential_counts(other: tuple[bytes, bytes]) -> None:
    """A header that comes twice is refused where one of them is another key, whichever comes first."""
    mine = (b"authorization", b"Bearer " + KEY)
    for headers in ([mine, other], [other, mine]):
        with pytest.raises(ServiceError) as caught:
            access().identify(headers)
        assert caught.value.status == 401
    assert access().identify([mine, mine]).name == "ada"


def test_refused_models_are_not_told_apart() -> None:
    """The refusal of a model says what the key is for, and nothing about the model that was named."""
    for model in ("flowers", "x" * 300, "no such model"):
        with pytest.raises(ServiceError) as caught:
            Grant("ada", frozenset({"predict"}), ("price-*",)).check_model(model)
        assert caught.value.message == "'ada' is not allowed to use this model; it may use: price-*."


def test_names_of_callers_do_not_fill_the_memory() -> None:
    """What a grant remembers of the names that a caller sends stays small, however many and long they are."""
    grant = Grant("ada", frozenset({"predict"}), ("price-*",))
    for number in range(3000):
        grant.covers(f"price-{number}")
        grant.covers(f"{number}" * 1000)
    assert len(grant.decided) <= 1000
    assert max(map(len, grant.decided)) <= 100


class Book(KeyRing):
    """Keys of every kind, by the key itself."""

    def __init__(self) -> None:
        super().__init__({}, {})
        self.grants = {
            b"bp_free": Grant("free", frozenset({"predict"})),
            b"bp_late": Grant("late", frozenset({"predict"}), not_after_s=1.0),
            b"bp_limited": Grant("limited", frozenset({"predict"}), account=Account(Limits(requests_per_s=1))),
            b"bp_reader": Grant("reader", frozenset({"read"})),
            b" bp_spaced": Grant("spaced", frozenset({"predict"})),
        }

    def grant(self, key: bytes) -> Grant | None:
        """Return the grant of a key."""
        return self.grants.get(key)


_SPELLINGS = st.builds(
    lambda scheme, key: scheme + key,
    st.sampled_from([b"Bearer ", b"bearer ", b"Bearer  ", b"Basic ", b""]),
    st.sampled_from([*Book().grants, b"bp_spaced", b"bp_free ", b"bp_unknown", b""]),
)
_HEADERS = st.lists(
    st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"accept"]), _SPELLINGS), min_size=1, max_size=3
)


@given(st.lists(_HEADERS, max_size=6), _HEADERS)
def test_what_is_remembered_changes_no_decision(
    before: list[list[tuple[bytes, bytes]]], now: list[tuple[bytes, bytes]]
) -> None:
    """Whatever was sent before, a remembered key is one that is valid now, in one header, and may predict without a quota."""
    book = Book()
    remembering = Access(book)
    for headers in [*before, now]:
        recalled = remembering.recall(headers, dict(headers))
        try:
            identified = Access(book).identify(headers)
        except ServiceError:
            identified = None
        if recalled is not None:
            assert recalled is identified
            assert recalled.name == "free"
        try:
            remembering.identify(headers)
        except ServiceError:
            continue
        if [name for name, _ in headers].count(b"accept") == len(headers) - 1 and identified is book.grants[b"bp_free"]:
            again = [(b"authorization", b"Bearer bp_free")], [(b"x-api-key", b"bp_free")]
            assert [remembering.recall(sent, dict(sent)) for sent in again] == [identified, identified]


def test_what_is_remembered_is_bounded() -> None:
    """However a caller spells its header, each key is remembered once for each header, and unknown ones never."""
    remembering = Access(Book())
    for number in range(200):
        spelled = b"Bearer" + b" " * (1 + number) + b"bp_free"
        assert remembering.identify([(b"authorization", spelled)]).name == "free"
        refusal(remembering, {b"x-api-key": b"bp_%d" % number})
    assert len(remembering._predictors) == len(remembering._key_predictors) == 1
