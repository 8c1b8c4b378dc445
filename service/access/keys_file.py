"""The file of keys (TOML): for each key its owner's name, its SHA-256, and what it may do.

    [[keys]]
    name = "reporting"
    sha256 = "3b1c…"                # of the whole key, bp_ included; the key itself is stored nowhere
    scopes = ["predict", "read"]
    models = ["penguins", "price-*"]
    not_after = 2027-01-01T00:00:00Z
    requests_per_s = 50
    rows_per_s = 10_000

A name may stand twice: both keys are valid, so that callers can change from one to the other. They share one account.
"""

import hashlib
import re
import secrets
import tomllib
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from batchproof.service.access.grant import SCOPES, CallerCounts, Grant, Scope, accounts
from batchproof.service.access.key_ring import PREFIX, KeyRing
from batchproof.service.access.quota import Limits
from batchproof.service.errors import SettingError, nearest

RANDOM_BYTES = 32
HEADER = "[[keys]]"
Pattern = Annotated[str, Field(pattern=r"^\S{1,200}$")]


class Key(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    certificate: Pattern | None = None  # instead: a name in a client certificate, * for any text
    scopes: tuple[Scope, ...] = Field(min_length=1)
    models: tuple[Pattern, ...] = Field(("*",), min_length=1)
    not_after: datetime | date | None = None
    requests_per_s: float | None = Field(None, gt=0, le=1e9)
    rows_per_s: float | None = Field(None, gt=0, le=1e12)

    @model_validator(mode="after")
    def _has_one_credential(self) -> Self:
        if (self.sha256 is None) == (self.certificate is None):
            raise ValueError("needs either sha256 or certificate")
        return self

    @property
    def credential(self) -> str:
        """Return the SHA-256 of the key, or the pattern of certificates."""
        return self.sha256 or self.certificate or ""

    @property
    def not_after_s(self) -> float | None:
        """Return the end of validity in seconds since 1970: a date lasts to its end, a time without a zone is UTC."""
        end = self.not_after
        if end is None:
            return None
        if not isinstance(end, datetime):
            return datetime.combine(end, time.max, UTC).timestamp()
        return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp()

    @property
    def limits(self) -> Limits:
        """Return how much the owner may ask for."""
        return Limits(self.requests_per_s, self.rows_per_s)


def read(path: Path, previous: KeyRing | None = None, workers: int = 1) -> KeyRing:
    """Read the keys that one of `workers` processes checks; raises SettingError with the entry that is wrong.

    An owner whose limits are as in `previous` keeps the account it has.
    """
    keys = read_keys(path)
    limits: dict[str, Limits] = {}
    for key in keys:
        if limits.setdefault(key.name, key.limits) != key.limits:
            raise SettingError(f"{path}: the keys of {key.name!r} must agree on requests_per_s and rows_per_s")
    shared = {name: limit.shared(workers) for name, limit in limits.items()}
    owned = accounts(previous.accounts if previous else {}, shared)
    counts = {**(previous.counts if previous else {})}
    for name in limits:
        counts.setdefault(name, CallerCounts())
    grants: dict[bytes, Grant] = {}
    certified: list[tuple[str, Grant]] = []
    for key in keys:
        grant = Grant(key.name, frozenset(key.scopes), key.models, key.not_after_s, owned[key.name], counts[key.name])
        if key.sha256 is not None:
            grants[bytes.fromhex(key.sha256)] = grant
        elif key.certificate is not None:
            certified.append((key.certificate, grant))
    return KeyRing(grants, owned, counts, certified)


def read_keys(path: Path) -> list[Key]:
    """Return the entries of the file in order; raises SettingError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"The keys file {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"The keys file {path} cannot be read: {error}") from error
    entries = content.get("keys", [])
    if set(content) - {"keys"} or not isinstance(entries, list):
        raise SettingError(f"The keys file {path} must hold nothing but entries that begin with {HEADER}")
    keys = [_key(path, place, entry) for place, entry in enumerate(entries, start=1)]
    seen: set[str] = set()
    for place, key in enumerate(keys, start=1):
        if key.credential in seen:
            raise SettingError(f"{path}: key {place} ({key.name!r}) is in the file twice")
        seen.add(key.credential)
    return keys


def _key(path: Path, place: int, entry: Any) -> Key:
    try:
        return Key.model_validate(entry)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, fault["loc"])) or "the entry"
        hint = nearest(field, list(Key.model_fields)) if fault["type"] == "extra_forbidden" else ""
        if field.startswith("scopes"):
            hint = f" Scopes are {', '.join(SCOPES)}."
        name = entry.get("name") if isinstance(entry, dict) else None
        which = f"key {place}" + (f" ({name!r:.80})" if isinstance(name, str) else "")
        raise SettingError(f"{path}: {which}: {field}: {fault['msg'].lower()}.{hint}") from error


def new_key() -> str:
    """Return a key of 256 random bits: `bp_` and 43 characters."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def entry_text(key: Key) -> str:
    """Return the entry as it stands in the file."""
    kind = "sha256" if key.sha256 else "certificate"
    lines = [HEADER, f'name = "{key.name}"', f'{kind} = "{key.credential}"', f"scopes = {_texts(key.scopes)}"]
    if key.models != ("*",):
        lines.append(f"models = {_texts(key.models)}")
    if key.not_after is not None:
        lines.append(f"not_after = {key.not_after.isoformat()}")
    limits = {"requests_per_s": key.requests_per_s, "rows_per_s": key.rows_per_s}
    lines += [f"{name} = {limit!r}" for name, limit in limits.items() if limit is not None]
    return "\n".join(lines) + "\n"


def without(text: str, credential: str) -> str | None:
    """Return the file's text without the entry of this key, everything else as it was.

    None where the entry is written in another way than `entry_text` writes it, so that a person has to take it out.
    """
    parts = re.split(rf"(?m)^(?={re.escape(HEADER)})", text)
    kept = "".join(part for part in parts if f'"{credential}"' not in part)
    before, after = (tomllib.loads(content).get("keys", []) for content in (text, kept))
    is_of_key = [credential in (entry.get("sha256"), entry.get("certificate")) for entry in before]
    return kept if after == [entry for entry, is_gone in zip(before, is_of_key, strict=True) if not is_gone] else None


def _texts(values: tuple[str, ...]) -> str:
    return "[" + ", ".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values) + "]"
