"""A chain: the segments of one model in one process, one after another, each naming the SHA-256 of the one before it."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from batchproof.service.errors import reason
from batchproof.service.journal.entries import Group, Source
from batchproof.service.journal.messages import Messages
from batchproof.service.journal.segment import SUFFIX, Segment, Sign
from batchproof.service.runtime.logs import event

Full = Literal["drop", "refuse"]
GATHER_S = 0.02  # with `drop`, rows are gathered this long before they are sent
RETRY_S = 1.0  # after the disk refused, the next try comes no sooner


@dataclass(frozen=True)
class Options:
    """How the journal is kept."""

    folder: Path
    full: Full = "drop"
    buffer_bytes: int = 64 << 20  # the most that waits to be written, in one process
    segment_bytes: int = 64 << 20
    segment_s: float = 3600.0
    keep_s: float = 0.0  # segments that were last written to so long ago are removed; 0: never
    sync: bool = False  # whether rows are on the disk before they count as written
    upload: str = ""  # address of the folder in an object store that finished segments are uploaded to; empty: none
    key: str = field(default="", repr=False)  # PEM of the private key that signs finished segments; empty: none does


@dataclass
class Counts:
    """What became of the rows."""

    written_rows: int = 0
    dropped_rows: int = 0  # answered and not written
    refused_rows: int = 0  # not written, and so not answered
    failures: int = 0  # writes that the disk refused
    segments: int = 0  # that were finished
    uploads: int = 0  # segments that went to the object store
    upload_failures: int = 0  # tries that failed


class Chain:
    """The segments of one model in this process, one after another."""

    def __init__(self, source: Source, options: Options, counts: Counts, sign: Sign | None) -> None:
        """Begin a chain of its own; `sign` signs finished segments."""
        self.source = source
        self.segment: Segment | None = None
        self.due_s = 0.0
        self._options = options
        self._counts = counts
        self._sign = sign
        self._name = secrets.token_hex(4)
        self._sequence = 0
        self._previous = ""
        self._retry_s = 0.0

    @property
    def is_due(self) -> bool:
        """Return whether the open segment is old or large enough to be finished."""
        segment = self.segment
        if segment is None:
            return False
        return segment.size >= self._options.segment_bytes or time.monotonic() >= self.due_s

    def write(self, groups: Sequence[Group]) -> str | None:
        """Append to the open segment, or to a new one; returns why it could not be done."""
        if time.monotonic() < self._retry_s:
            return "the disk refused the last write"
        try:
            if self.segment is None:
                self.segment = self._open()
            self.segment.write(self._messages.message(groups), sum([group.rows for group in groups]))
        except OSError as error:
            self._give_up()
            return reason(error)
        return None

    def finish(self) -> str | None:
        """Finish the open segment; returns why it could not be done."""
        segment, self.segment = self.segment, None
        if segment is None:
            return None
        try:
            self._previous = segment.finish(self._sign)
        except OSError as error:
            self._give_up(segment)
            return reason(error)
        self._counts.segments += 1
        event("journal_segment", segment=segment.path.name, rows=segment.rows, sha256=self._previous)
        return None

    def _open(self) -> Segment:
        header = self.source.header(self._name, self._sequence, self._previous)
        schema = self.source.schema(header)
        self._messages = Messages(self.source, schema)
        name = f"{self.source.model}-{self.source.version}-{self._name}-{self._sequence:06d}{SUFFIX}"
        segment = Segment(self._options.folder / name, schema, sync=self._options.sync)
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
