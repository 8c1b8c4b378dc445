"""The journal of one process: answered requests are handed over on the event loop, and a thread writes them.

What waits to be written is bounded in bytes. Where it would be more, or the disk refuses, `drop` loses the rows and
counts them, and `refuse` lets no answer leave that is not written: the caller gets 503 instead.
"""

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from batchproof.service.errors import SettingError, reason
from batchproof.service.journal.entries import Entry, Source
from batchproof.service.journal.writing.chain import RETRY_S, Chain, Counts, Options
from batchproof.service.journal.writing.retention import remove_old
from batchproof.service.runtime.logs import event

GATHER_S = 0.02  # with `drop`, entries are gathered this long: larger batches cost less
ENTRY_BYTES = 1000  # what a request takes in memory beside its rows: its arrays are objects
RETENTION_LOOKS = 10  # looks for old segments in `keep_s`
LONGEST_LOOK_S = 3600.0  # between two such looks
RETIRED = Entry("", 0.0, "", "", 0, (), {})  # type: ignore[arg-type]  # a mark in the queue, never written


class Journal:
    """Takes entries on one thread, the event loop, and writes them on another."""

    def __init__(self, options: Options) -> None:
        """Make the folder and start the thread; raises SettingError where it cannot be written."""
        self.options = options
        self.counts = Counts()
        self._chains: dict[Source, Chain] = {}
        self._waiting: list[tuple[Source, Entry]] = []
        self._waiting_bytes = 0
        self._lock = threading.RLock()  # the collector may retire a model while its thread appends
        self._changed = threading.Condition(self._lock)
        self._is_closing = False
        self._failing_until_s = 0.0  # monotonic: until then nobody asks the disk again
        self._look_s = time.monotonic()  # when the next look for old segments is due
        try:
            options.folder.mkdir(parents=True, exist_ok=True)
            probe = options.folder / f".probe-{secrets.token_hex(4)}"
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise SettingError(f"The journal cannot be written: {reason(error)}") from error
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Return whether the next entry is likely to be written: there is room for it, and the disk did not just refuse."""
        if self._is_closing or self._waiting_bytes >= self.options.buffer_bytes:
            return False
        return not self._failing_until_s or time.monotonic() >= self._failing_until_s

    def append(self, source: Source, entry: Entry) -> bool:
        """Hand an entry over; False where there is no room for it: it is counted and never written."""
        size = entry.rows * source.row_bytes + ENTRY_BYTES
        with self._lock:
            if self._is_closing or self._waiting_bytes >= self.options.buffer_bytes:
                self._count_lost(entry.rows)
                return False
            self._waiting.append((source, entry))
            self._waiting_bytes += size
            if len(self._waiting) == 1:
                self._changed.notify()
        return True

    def retire(self, source: Source) -> None:
        """Finish the segment of a model that is served no more, after what waits of it was written."""
        with self._changed:
            self._waiting.append((source, RETIRED))
            self._changed.notify()

    def close(self, timeout_s: float | None = None) -> bool:
        """Write what waits, finish every segment and end the thread; returns whether it ended within `timeout_s`."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._write_next():
                pass
        finally:  # after an error that nobody foresaw, nothing more is promised
            self._is_closing = True

    def _write_next(self) -> bool:
        """Write what waits, or wait for it; returns whether more may come."""
        taken, is_last = self._take()
        by_source: dict[Source, list[Entry]] = defaultdict(list)
        for source, entry in taken:
            by_source[source].append(entry)
        for source, entries in by_source.items():
            self._write(source, [entry for entry in entries if entry is not RETIRED])
            if RETIRED in entries and (chain := self._chains.pop(source, None)):
                self._finish([chain])
        self._finish(chain for chain in self._chains.values() if is_last or chain.is_due)
        if self.options.keep_s and time.monotonic() >= self._look_s:
            self._remove_old()
        return not is_last

    def _take(self) -> tuple[Sequence[tuple[Source, Entry]], bool]:
        """Wait for entries, and return them with whether they are the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing, timeout=self._longest_wait_s())
            is_last = self._is_closing
        if self.options.full == "drop" and not is_last and self._waiting:
            time.sleep(GATHER_S)
        with self._changed:
            taken, self._waiting = self._waiting, []
            self._waiting_bytes = 0
            return taken, is_last

    def _longest_wait_s(self) -> float | None:
        """Return when the next segment or look for old ones is due; None where nothing ever is."""
        due = [chain.due_s for chain in self._chains.values() if chain.segment is not None]
        if self.options.keep_s:
            due.append(self._look_s)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _write(self, source: Source, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        chain = self._chains.get(source) or self._chains.setdefault(source, Chain(source, self.options, self.counts))
        rows = sum(entry.rows for entry in entries)
        failure = chain.write(entries)
        if failure is None:
            self.counts.written_rows += rows
            self._failing_until_s = 0.0
        else:
            self._failing_until_s = time.monotonic() + RETRY_S
            self._count_lost(rows)
            self._log_failure(source, failure, rows=rows)
        for entry in entries:
            if entry.on_written is not None:
                entry.on_written(failure)

    def _finish(self, chains: Iterable[Chain]) -> None:
        for chain in chains:
            if (failure := chain.finish()) is not None:
                self._log_failure(chain.source, failure)

    def _remove_old(self) -> None:
        self._look_s = time.monotonic() + min(self.options.keep_s / RETENTION_LOOKS, LONGEST_LOOK_S)
        try:
            remove_old(self.options.folder, time.time() - self.options.keep_s)
        except OSError as error:
            self.counts.failures += 1
            event("journal_not_cleared", 30, reason=reason(error))

    def _count_lost(self, rows: int) -> None:
        if self.options.full == "drop":
            self.counts.dropped_rows += rows
        else:
            self.counts.refused_rows += rows

    def _log_failure(self, source: Source, failure: str, **fields: int) -> None:
        self.counts.failures += 1
        event("journal_not_written", 40, model=source.model, version=source.version, **fields, reason=failure)
