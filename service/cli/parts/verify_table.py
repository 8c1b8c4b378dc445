"""A verification as text that a person reads: one line for each group of batch sizes, then the verdict."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from batchproof.service.invariance.verdict import Attempt, SizeFinding, Verification

HEADER = f"  {'batch rows':>14}  {'rows compared':>13}  {'rows changed':>12}  {'share':>8}"


def table(verification: Verification, subject: str) -> str:
    """Return the whole text; `subject` says which model it is."""
    lines = [subject, host_line(verification.host), ""]
    for attempt in verification.attempts:
        lines += [*_attempt_lines(attempt), ""]
    lines.append(f"{verification.status}: {verdict(verification)} ({verification.seconds:.2f} s)")
    return "\n".join(lines)


def verdict(verification: Verification) -> str:
    """Return whether rows change with their batch, and whether padding helps."""
    first, last = verification.attempts[0], verification.attempts[-1]
    if first.holds and not first.is_complete:
        return f"no bit changed so far: {first.compared} rows compared within the time limit"
    if first.holds and first.tile_rows is None:
        return f"every row had the same bits alone and in every batch: {first.compared} rows compared"
    change = f"rows change with their batch ({first.changed} of {first.compared})" if first.tile_rows is None else ""
    tiles = ", ".join(str(attempt.tile_rows) for attempt in verification.attempts if attempt.tile_rows)
    if last.tile_rows and last.holds and not last.is_complete:
        cure = f"the time limit ended the test of runs padded to {last.tile_rows} rows"
    elif last.tile_rows and last.holds:
        cure = f"with every run padded to {last.tile_rows} rows no bit changes"
    elif tiles:
        cure = f"padding every run to one row count does not help (tried {tiles})"
    else:
        cure = "padding was not tried, as the policy says"
    return "; ".join(part for part in (change, cure) if part)


def host_line(host: Mapping[str, Any]) -> str:
    """Say what the bits were made by."""
    made_by = f"{host.get('engine')} · {host.get('provider')}"
    if "threads" not in host:  # a server, which says no more
        return made_by
    features = " ".join(host.get("cpu_features", ())) or "CPU features unknown"
    return f"{made_by} · threads: {host['threads'] or 'all'} · {features}"


def _attempt_lines(attempt: Attempt) -> Iterator[str]:
    how = f"every run padded to {attempt.tile_rows} rows" if attempt.tile_rows else "runs of any size"
    yield f"{how}: {attempt.rows} probe rows, {sum(finding.batch_rows for finding in attempt.sizes)} positions"
    yield HEADER
    for together in _groups(attempt.sizes):
        compared, changed = (sum(getattr(finding, name) for finding in together) for name in ("compared", "changed"))
        yield f"  {_span(together):>14}  {compared:>13}  {changed:>12}  {_share(changed, compared):>8}"
    if attempt.first:
        first = attempt.first
        largest = ", ".join(f"{name!r} by up to {ulps:.4g} ulps" for name, ulps in attempt.ulps.items())
        yield f"  outputs that change: {largest}"
        yield f"  first: output {first.output!r}, position {first.position} of {first.batch_rows} rows"


def _groups(sizes: Sequence[SizeFinding]) -> Iterator[list[SizeFinding]]:
    """Join neighbouring sizes that are both clean or both not; size 1 stays separate."""
    numbered = enumerate(sizes)

    def group(item: tuple[int, SizeFinding]) -> tuple[bool, int, bool]:
        number, finding = item
        return finding.batch_rows == 1, finding.batch_rows - number, finding.changed == 0

    for _, together in groupby(numbered, group):
        yield [finding for _, finding in together]


def _span(together: Sequence[SizeFinding]) -> str:
    first, last = together[0].batch_rows, together[-1].batch_rows
    return str(first) if first == last else f"{first} to {last}"


def _share(changed: int, compared: int) -> str:
    return f"{changed / compared:.2%}" if changed else "0 %"
