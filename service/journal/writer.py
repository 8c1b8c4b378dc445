"""The journal of one process: answered requests are handed over on the event loop, and a thread writes them.

What waits to be written is bounded in bytes. Where it would be more, or the disk refuses, `drop` loses the rows and
counts them, and `refuse` lets no answer leave that is not written: the caller gets 503 instead.
"""

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchproof.service.errors import SettingError, reason
from batchproof.service.journal.entries import Entry, Source
from batchproof.service.journal.segment import SUFFIX, Segment, Sign, sums_path
from batchproof.service.logs import event

Full = Literal["drop", "refuse"]
GATHER_S = 0.02  # with `drop`, entries are gathered this long: larger batches cost less
RETRY_S = 1.0  # after the disk refused, the next try comes no sooner


@dataclass(frozen=True)
class Options:
    """How the journal is kept."""

    folder: Path
    full: Full = "drop"
    buffer_bytes: int = 64 << 20  # the most that waits to be written, in one process
    segment_bytes: int = 64 << 20
    segment_s: float = 3600.0
    keep_s: float = 0.0  # finished segments are removed when they are older; 0: never
    sync: bool = False  # whether rows are on the disk before they count as written
    sign: Sign | None = None


@dataclass
class Counts:
    """What became of the rows."""

    written_rows: int = 0
    dropped_rows: int = 0
    failures: int = 0  # writes that the disk refused
    segments: int = 0


class Journal:
    """Takes entries on one thread, the event loop, and writes them on another."""

    def __init__(self, options: Options) -> None:
        """Make the folder and start the thread; raises SettingError where it cannot be written."""
        self.options = options
        self.counts = Counts()
        self._chains: dict[Source, _Chain] = {}
        self._waiting: list[tuple[Source, Entry]] = []
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._is_closing = False
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
    def is_full(self) -> bool:
        """Return whether the next entry finds no room."""
        return self._waiting_bytes >= self.options.buffer_bytes

    def append(self, source: Source, entry: Entry) -> bool:
        """Hand an entry over; False where there is no room for it: it is counted as dropped and never written."""
        size = entry.rows * source.row_bytes
        with self._changed:
            if (self._waiting_bytes and self._waiting_bytes + size > self.options.buffer_bytes) or self._is_closing:
                self.counts.dropped_rows += entry.rows
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

    def close(self) -> None:
        """Write what waits, finish every segment and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            taken, is_last = self._take()
            by_source: dict[Source, list[Entry]] = defaultdict(list)
            for source, entry in taken:
                by_source[source].append(entry)
            for source, entries in by_source.items():
                self._write(source, [entry for entry in entries if entry is not RETIRED])
                if RETIRED in entries and (chain := self._chains.pop(source, None)):
                    self._finish(chain)
            if is_last:
                for chain in self._chains.values():
                    self._finish(chain)
                return
            self._rotate()

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
        """Return when the next segment is due to be finished; None where none is open."""
        due = [chain.due_s for chain in self._chains.values() if chain.segment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _write(self, source: Source, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        chain = self._chains.get(source) or self._chains.setdefault(source, _Chain(source, self.options, self.counts))
        rows = sum(entry.rows for entry in entries)
        failure = chain.write(entries)
        if failure is None:
            self.counts.written_rows += rows
        else:
            self.counts.failures += 1
            self.counts.dropped_rows += rows
            event("journal_not_written", 40, model=source.model, version=source.version, rows=rows, reason=failure)
        for entry in entries:
            if entry.on_written is not None:
                entry.on_written(failure)

    def _rotate(self) -> None:
        for chain in self._chains.values():
            if chain.is_due:
                self._finish(chain)

    def _finish(self, chain: "_Chain") -> None:
        if (failure := chain.finish()) is not None:
            self.counts.failures += 1
            event("journal_not_written", 40, model=chain.source.model, version=chain.source.version, reason=failure)


RETIRED = Entry("", 0.0, "", "", 0, (), {})  # type: ignore[arg-type]  # a mark in the queue, never written


class _Chain:
    """The segments of one model in this process, one after another."""

    def __init__(self, source: Source, options: Options, counts: Counts) -> None:
        """Begin a chain of its own."""
        self.source = source
        self.segment: Segment | None = None
        self.due_s = 0.0
        self._options = options
        self._counts = counts
        self._name = secrets.token_hex(4)
        self._sequence = 0
        self._previous = ""
        self._retry_s = 0.0
        self._finished: list[tuple[float, Path]] = []

    @property
    def is_due(self) -> bool:
        """Return whether the open segment is old or large enough to be finished."""
        segment = self.segment
        if segment is None:
            return False
        return segment.bytes >= self._options.segment_bytes or time.monotonic() >= self.due_s

    def write(self, entries: Sequence[Entry]) -> str | None:
        """Append to the open segment, or to a new one; returns why it could not be done."""
        if time.monotonic() < self._retry_s:
            return "the disk refused the last write"
        try:
            if self.segment is None:
                self.segment = self._open()
            self.segment.write(self.source.batch(entries, self._schema))
        except OSError as error:
            self._give_up()
            return reason(error)
        return None

    def finish(self) -> str | None:
        """Finish the open segment, and remove those that are too old; returns why it could not be done."""
        segment, self.segment = self.segment, None
        if segment is None:
            return None
        try:
            self._previous = segment.finish(self._options.sign)
        except OSError as error:
            self._give_up(segment)
            return reason(error)
        self._counts.segments += 1
        self._finished.append((time.monotonic(), segment.path))
        event("journal_segment", segment=segment.path.name, rows=segment.rows, sha256=self._previous)
        self._remove_old()
        return None

    def _open(self) -> Segment:
        header = self.source.header(self._name, self._sequence, self._previous)
        self._schema = self.source.schema(header)
        name = f"{self.source.model}-{self.source.version}-{self._name}-{self._sequence:06d}{SUFFIX}"
        segment = Segment(self._options.folder / name, self._schema, sync=self._options.sync)
        self._sequence += 1
        self.due_s = time.monotonic() + self._options.segment_s
        return segment

    def _give_up(self, segment: Segment | None = None) -> None:
        """Leave the segment as it is: what was noted is whole. The next one cannot name its digest and begins a chain."""
        segment = segment or self.segment
        if segment is not None:
            segment.abandon()
        self.segment = None
        self._name, self._sequence, self._previous = secrets.token_hex(4), 0, ""
        self._retry_s = time.monotonic() + RETRY_S

    def _remove_old(self) -> None:
        if not self._options.keep_s:
            return
        oldest_s = time.monotonic() - self._options.keep_s
        for finished_s, path in [pair for pair in self._finished if pair[0] < oldest_s]:
            self._finished.remove((finished_s, path))
            path.unlink(missing_ok=True)
            sums_path(path).unlink(missing_ok=True)
