"""Groups of rows into segments: what the writing process does. Everything here may wait for the disk."""

import time
from collections.abc import Sequence

from batchproof.service.errors import reason
from batchproof.service.journal.entries import Group, Source
from batchproof.service.journal.segment import Sign
from batchproof.service.journal.writing.chain import Chain, Counts, Options
from batchproof.service.journal.writing.retention import remove_old
from batchproof.service.runtime.logs import event

RETENTION_LOOKS = 10  # looks for old segments in `keep_s`
LONGEST_LOOK_S = 3600.0  # between two such looks


class Writer:
    """The chains of one process."""

    def __init__(self, options: Options, sign: Sign | None = None) -> None:
        """Write to the folder, which exists; `sign` signs finished segments."""
        self.counts = Counts()
        self.options = options
        self._sign = sign
        self._chains: dict[Source, Chain] = {}
        self._look_s = time.monotonic()  # when the next look for old segments is due

    def write(self, source: Source, groups: Sequence[Group]) -> str | None:
        """Append the rows as one batch; returns why it could not be done."""
        chain = self._chains.get(source)
        if chain is None:
            chain = self._chains[source] = Chain(source, self.options, self.counts, self._sign)
        rows = sum([group.rows for group in groups])
        failure = chain.write(groups)
        if failure is None:
            self.counts.written_rows += rows
        else:
            self._log_failure(source, failure, rows=rows)
        return failure

    def retire(self, source: Source) -> None:
        """Finish the segment of a model that is served no more."""
        chain = self._chains.pop(source, None)
        if chain is not None:
            self._finish(chain)

    def tidy(self) -> None:
        """Finish the segments that are old or large enough, and remove those that were kept long enough."""
        for chain in self._chains.values():
            if chain.is_due:
                self._finish(chain)
        if self.options.keep_s and time.monotonic() >= self._look_s:
            self._remove_old()

    @property
    def wait_s(self) -> float | None:
        """Return in how many seconds `tidy` has something to do; None where it never has."""
        due = [chain.due_s for chain in self._chains.values() if chain.segment is not None]
        if self.options.keep_s:
            due.append(self._look_s)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def close(self) -> None:
        """Finish every segment."""
        for chain in self._chains.values():
            self._finish(chain)

    def _finish(self, chain: Chain) -> None:
        if (failure := chain.finish()) is not None:
            self._log_failure(chain.source, failure)

    def _remove_old(self) -> None:
        self._look_s = time.monotonic() + min(self.options.keep_s / RETENTION_LOOKS, LONGEST_LOOK_S)
        try:
            remove_old(self.options.folder, time.time() - self.options.keep_s)
        except OSError as error:
            self.counts.failures += 1
            event("journal_not_cleared", 30, reason=reason(error))

    def _log_failure(self, source: Source, failure: str, **fields: int) -> None:
        self.counts.failures += 1
        event("journal_not_written", 40, model=source.model, version=source.version, **fields, reason=failure)
