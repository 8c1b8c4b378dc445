"""Old segments are removed, whichever process wrote them: a process that was killed can remove its own no more."""

from collections.abc import Callable
from pathlib import Path

from batchproof.service.journal.segment import SUFFIX, sums_path
from batchproof.service.runtime.logs import event


def remove_old(folder: Path, oldest_s: float, may_go: Callable[[str], bool] | None = None) -> None:
    """Remove the segments that were last written to before `oldest_s` (seconds since 1970), oldest first; raises OSError.

    A segment that is being written is younger, because it is finished within `segment_s`, which is less than `keep_s`.
    Other workers may remove the same ones. A segment stays as long as `may_go`, where it is given, is false for its name.
    """
    ages = []
    for path in folder.glob(f"*{SUFFIX}"):
        if may_go is not None and not may_go(path.name):
            continue
        try:
            changed_s = path.stat().st_mtime
        except FileNotFoundError:
            continue
        if changed_s < oldest_s:
            ages.append((changed_s, path))
    for _, path in sorted(ages):
        path.unlink(missing_ok=True)
        sums_path(path).unlink(missing_ok=True)
    if ages:
        event("journal_cleared", segments=len(ages))
