"""The verdict on a model's batch invariance on this host: plain values, ready for JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from batchproof.service.errors import EngineError
from batchproof.service.invariance.bitwise import BitCounts, Difference

Policy = Literal["require", "tile", "report"]
Status = Literal["proved", "verified", "tiled", "reported", "failed", "undecided"]

MEANING: Mapping[Status, str] = {
    "proved": "each row's bits cannot depend on its batch: proved from the file, and no difference was found here",
    "verified": "each row had the same bits alone and in every batch tried on this host",
    "tiled": "each row has the same bits in every batch tried on this host, because every run has one fixed row count",
    "reported": "rows' bits change with the batch on this host; it is served because the policy says report",
    "failed": "rows' bits change with the batch on this host, and no fixed row count helps",
    "undecided": "the time limit ended the check before it was complete; no bit changed so far",
}


@dataclass(frozen=True)
class SizeFinding:
    """What was compared in batches of one size."""

    batch_rows: int
    compared: int  # rows
    changed: int  # rows whose bits differed from those in a batch of one


@dataclass(frozen=True)
class Attempt:
    """One way of running the model, checked."""

    tile_rows: int | None  # None: runs of any size
    rows: int  # probe rows
    sizes: tuple[SizeFinding, ...]
    ulps: Mapping[str, float]  # output -> largest difference in units of the last place; only outputs that changed
    first: Difference | None
    seconds: float
    is_complete: bool = True  # whether everything was compared that an attempt compares at least

    @property
    def holds(self) -> bool:
        """Return whether no bit changed."""
        return self.first is None

    @property
    def compared(self) -> int:
        """Return how many rows were compared, over all batches."""
        return sum(finding.compared for finding in self.sizes)

    @property
    def changed(self) -> int:
        """Return how many of them had other bits than in a batch of one."""
        return sum(finding.changed for finding in self.sizes)

    @property
    def sentence(self) -> str:
        """Say what was tried and what was seen."""
        how = f"every run padded to {self.tile_rows} rows" if self.tile_rows else "runs of any size"
        if self.first is None:
            end = "" if self.is_complete else ", when the time limit ended the check"
            return f"{how}: {self.compared} rows compared, none changed{end}"
        seen = f"{self.changed} of {self.compared} rows changed, by up to {max(self.ulps.values()):.3g} ulps"
        where = f"output {self.first.output!r} at position {self.first.position} of {self.first.batch_rows} rows"
        return f"{how}: {seen}, first in {where}"


@dataclass(frozen=True)
class Verification:
    """The verdict, what it rests on, and where and when it was reached."""

    status: Status
    policy: Policy
    attempts: tuple[
        Attempt, ...
    ]  # in the order tried; the last one's way serves, but where status is reported or failed
    sessions: int  # engine sessions that had to agree with each other
    host: Mapping[str, Any]  # the engine's description: version, provider, threads, CPU features
    bits: str  # SHA-256 of the lone outputs of the first probe rows: equal where two hosts or processes agree
    when: str  # ISO 8601, UTC
    seconds: float  # what the check cost

    @property
    def tile_rows(self) -> int | None:
        """Return the row count that every run is padded to, None if runs may have any size."""
        return self.attempts[-1].tile_rows if self.status == "tiled" else None

    @property
    def sentence(self) -> str:
        """Say the verdict and what was tried."""
        return f"{MEANING[self.status]}; tried: " + "; ".join(attempt.sentence for attempt in self.attempts)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, the numbers of the way that serves first."""
        served = self.attempts[-1] if self.status in ("proved", "verified", "tiled") else self.attempts[0]
        return {
            "status": self.status,
            "meaning": MEANING[self.status],
            "policy": self.policy,
            "tile_rows": self.tile_rows,
            "rows": served.rows,
            "batch_sizes": [finding.batch_rows for finding in served.sizes],
            "positions": sum(finding.batch_rows for finding in served.sizes),
            "rows_compared": served.compared,
            "rows_changed": served.changed,
            "tried": [_plain(attempt) for attempt in self.attempts],
            "sessions": self.sessions,
            "bits": self.bits,
            **self.host,
            "when": self.when,
            "seconds": round(self.seconds, 4),
        }


class InvarianceError(EngineError):
    """A model whose rows change with their batch on this host; the chosen policy does not allow serving it."""

    def __init__(self, verification: Verification) -> None:
        """Keep what was found, for the command line and the log."""
        super().__init__(verification.sentence)
        self.verification = verification


def attempt_of(
    counts: BitCounts, tile_rows: int | None, rows: int, seconds: float, *, is_complete: bool = True
) -> Attempt:
    """Freeze what was counted."""
    sizes = tuple(SizeFinding(size, counts.compared[size], counts.changed[size]) for size in sorted(counts.compared))
    return Attempt(tile_rows, rows, sizes, dict(counts.ulps), counts.first, seconds, is_complete)


def _plain(attempt: Attempt) -> dict[str, Any]:
    return {
        "tile_rows": attempt.tile_rows,
        "rows": attempt.rows,
        "rows_compared": attempt.compared,
        "rows_changed": attempt.changed,
        "changed_at": {
            finding.batch_rows: finding.changed / finding.compared for finding in attempt.sizes if finding.changed
        },
        "max_ulps": dict(attempt.ulps),
        "first": asdict(attempt.first) if attempt.first else None,
        "seconds": round(attempt.seconds, 4),
    }
