"""Groups of rows into segments: what the writing process does. Everything here may wait for the disk."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from batchproof.service.configuration.address import Address, root_of
from batchproof.service.errors import reason
from batchproof.service.journal.entries import Group, Source
from batchproof.service.journal.segment import Sign
from batchproof.service.journal.writing.chain import Chain, Counts, Options
from batchproof.service.journal.writing.retention import remove_old
from batchproof.service.runtime.logs import event

if TYPE_CHECKING:
    from batchproof.service.journal.remote.uploading import Uploader

RETENTION_LOOKS = 10  # looks for old segments in `keep_s`
LONGEST_LOOK_S = 3600.0  # between two such looks
TELL_S = 1.0  # while segments are uploaded, their counts are looked at so often


class Writer:
    """The chains of one process."""

    def __init__(self, options: Options, sign: Sign | None = None) -> None:
        """Write to the folder, which exists; `sign` signs finished segments."""
        self.counts = Counts()
        self.options = options
        self._sign = sign
        self._chains: dict[Source, Chain] = {}
        self._look_s = time.monotonic()  # when the next look for old segments is due
        self._uploader = _uploader(options, self.counts)

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
        if self._uploader is not None:
            due.append(time.monotonic() + TELL_S)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def close(self) -> None:
        """Finish every segment."""
        for chain in self._chains.values():
            self._finish(chain)

    def end_uploads(self) -> None:
        """Try once to upload the segments that the store does not have."""
        if self._uploader is not None:
            self._uploader.close()

    def _finish(self, chain: Chain) -> None:
        if (failure := chain.finish()) is not None:
            self._log_failure(chain.source, failure)
        elif self._uploader is not None:
            self._uploader.wake()

    def _remove_old(self) -> None:
        self._look_s = time.monotonic() + min(self.options.keep_s / RETENTION_LOOKS, LONGEST_LOOK_S)
        try:
            may_go = None if self._uploader is None else self._uploader.is_uploaded
            remove_old(self.options.folder, time.time() - self.options.keep_s, may_go)
        except OSError as error:
            self.counts.failures += 1
            event("journal_not_cleared", 30, reason=reason(error))

    def _log_failure(self, source: Source, failure: str, **fields: int) -> None:
        self.counts.failures += 1
        event("journal_not_written", 40, model=source.model, version=source.version, **fields, reason=failure)


def _uploader(options: Options, counts: Counts) -> "Uploader | None":
    """Return what uploads finished segments; None where they stay here."""
    target = root_of(options.upload) if options.upload else None
    if not isinstance(target, Address):
        return None
    from batchproof.service.journal.remote.uploading import Uploader
    from batchproof.service.stores.object_path import object_path

    return Uploader(options.folder, options.upload, lambda: object_path(target), counts)
