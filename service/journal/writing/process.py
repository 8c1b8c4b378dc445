"""The writing process of one worker: it takes groups of rows over a socket, and says of each whether it is written.

    python -m batchproof.service.journal.writing.process    with the socket as standard input

Arrow, checksums, signatures and the disk cost the worker nothing but the sending. All that has come is written as one batch,
so that many callers share a write. The process ends with the connection, whether its worker closed it or was killed: what
was sent before is written, and segments are finished.
"""

import contextlib
import select
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

from batchproof.service.journal.entries import Group, Notes, Source
from batchproof.service.journal.segment import Sign
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.frames import GROUP, OPTIONS, RETIRE, SOURCE, Frame, FrameReader, group_of
from batchproof.service.journal.writing.writer import Writer
from batchproof.service.runtime import logs

Pending = tuple[int, Group]  # the number of the source, and its rows


class WritingProcess:
    """One end of the connection, and the segments behind it."""

    def __init__(self, connection: socket.socket) -> None:
        """Begin without options: the first frame has them."""
        self._connection = connection
        self._poller = select.poll()
        self._poller.register(connection, select.POLLIN)
        self._frames = FrameReader()
        self._writer: Writer | None = None
        self._sources: dict[int, Source] = {}
        self._told = (0, 0, 0, 0)  # of `_counts`, what the worker knows

    def run(self) -> None:
        """Write what comes until the connection ends."""
        is_open = True
        while is_open:
            is_open = self._read()
            # What became of each frame, in order; the first one, of options, has no answer.
            failures: list[str | None] = []
            pending: list[Pending] = []
            for frame in self._frames.frames():
                if frame.kind == GROUP:
                    number, times, *notes = frame.content
                    pending.append((number, group_of(self._sources[number], times, Notes(*notes), frame.arrays)))
                    continue
                failures += self._write(pending)
                pending = []
                failures += self._obey(frame)
            failures += self._write(pending)
            if self._writer is not None:
                self._writer.tidy()
                self._answer(self._writer, failures)
        if self._writer is not None:
            self._writer.close()
            self._answer(self._writer, [])  # first: the store may be slow
            self._writer.end_uploads()
            self._answer(self._writer, [])

    def _read(self) -> bool:
        """Wait for bytes, or until a segment is due; returns whether more may come."""
        wait_s = self._writer.wait_s if self._writer is not None else None
        if not self._poller.poll(None if wait_s is None else 1000 * wait_s + 1):
            return True
        try:
            taken = self._connection.recv_into(self._frames.room())
        except ConnectionError:  # the worker was killed with answers of ours unread
            return False
        self._frames.took(taken)
        return taken > 0

    def _obey(self, frame: Frame) -> Iterator[str | None]:
        """Do what a frame without rows says."""
        if frame.kind == OPTIONS:
            logs.configure(frame.content["log_format"], frame.content["log_level"])
            given = frame.content["options"]
            options = Options(**{**given, "folder": Path(given["folder"])})
            self._writer = Writer(options, _signer(options.key))
            import_module("pyarrow")  # now, and not while the first answer waits
            self._sources = {number: Source(**source) for number, source in frame.content["sources"]}
        elif frame.kind == SOURCE:
            number, source = frame.content
            self._sources.setdefault(number, Source(**source))
            yield None
        elif frame.kind == RETIRE:
            source = self._sources.pop(frame.content, None)
            if self._writer is not None and source is not None:
                self._writer.retire(source)
            yield None

    def _write(self, pending: Sequence[Pending]) -> list[str | None]:
        """Write groups, those of one source as one batch; returns why each could not be written, or None."""
        if not pending:
            return []
        assert self._writer is not None, "options come first"
        by_source: dict[int, list[Group]] = {}
        for number, group in pending:
            by_source.setdefault(number, []).append(group)
        failure = {number: self._writer.write(self._sources[number], groups) for number, groups in by_source.items()}
        return [failure[number] for number, _ in pending]

    def _answer(self, writer: Writer, failures: Sequence[str | None]) -> None:
        """Tell the worker what became of its groups, and what else happened."""
        counts = _counts(writer)
        if not failures and counts == self._told:
            return
        message: list[Any] = [failures, *(now - told for now, told in zip(counts, self._told, strict=True))]
        self._told = counts
        with contextlib.suppress(OSError):  # the worker is gone; what it sent is written all the same
            self._connection.sendall(orjson.dumps(message) + b"\n")


def _counts(writer: Writer) -> tuple[int, int, int, int]:
    """Return the counts that the worker hears of beside its rows, in the order of `Journal._count`."""
    counts = writer.counts
    return counts.failures, counts.segments, counts.uploads, counts.upload_failures


def _signer(key: str) -> Sign | None:
    """Return what signs segments; None where they are not signed."""
    if not key:
        return None
    from batchproof.service.bundle.signing import keys

    private = keys.private_key(key.encode(), "journal_key")
    return lambda message: keys.sign(private, message)


def main() -> None:
    """Serve the connection that is standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the worker decides when it is time to end
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=sys.stdin.fileno()) as connection:
        WritingProcess(connection).run()


if __name__ == "__main__":
    main()
