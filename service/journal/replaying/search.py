"""One request looked up in the folder of a journal, which may be large and is being written: for a service's page.

Only segments that hold the id are checked and read. No column is packed, so an id stands in its segment as its bytes, and a
look at the bytes passes over the other segments about as fast as the disk gives them. The newest come first: where the
time ends, what was looked at by then is told. Whether the whole journal is as it was written is for `batchproof replay`.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from batchproof.service.configuration.address import Root
from batchproof.service.errors import BundleError, JournalError, reason
from batchproof.service.inference.catalogue import repository
from batchproof.service.inference.catalogue.repository import BundleFolder
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.journal.entries import METADATA
from batchproof.service.journal.replaying.bundles import Shelf
from batchproof.service.journal.segment import SUFFIX

if TYPE_CHECKING:
    from batchproof.service.journal.reader import CheckedSegment

PART_BYTES = 8 << 20  # of a segment that are looked at together
NICE = 5  # predictions go first
ANSWER_CHARACTERS = 4 << 20
CLOCK_S = 1.0  # by which a file system's times may be behind

Outcome: TypeAlias = Literal["found", "unknown", "too long", "failed"]


class Search(NamedTuple):
    """What is looked for, where, and what it may run on."""

    folder: Path
    request_id: str
    row: int | None  # None: all of the request
    since: datetime | None  # only segments that may have rows from then on
    until: datetime | None  # only segments that may have rows before
    seconds: float  # after which no further segment is looked at
    models: Root
    served: Sequence[BundleFolder]  # by the service, wherever `models` is
    options: EngineOptions
    run_rows: int
    is_page: bool  # whether to answer with the auditor's page in place of JSON


def search(wanted: Search) -> str:
    """Return an Outcome in the first line, and below it what to answer with, or the sentence why not.

    For a child process: it loads pyarrow, and gives way to others.
    """
    from batchproof.service.journal.replaying.decision import Asked, decisions

    os.nice(NICE)
    try:
        looked = _look(wanted)
        shelf = Shelf(str(wanted.models), [*wanted.served, *_beside(wanted.models)], wanted.options, wanted.run_rows)
        found = decisions(looked.segments, shelf.answered, Asked(wanted.request_id, wanted.row))
    except (JournalError, OSError) as error:
        return _said("failed", reason(error))
    faults = [f"{name}: {what}" for name, what in looked.problems]
    if not found.total and faults:
        return _said("failed", ". ".join(faults))
    if not found.total:
        count = f"{looked.searched} of {looked.all} segments"
        return _said("unknown" if looked.searched == looked.all else "too long", count)
    if wanted.is_page:
        from batchproof.service.journal.replaying.page import more_rows, page

        shown = _short(found.rows)
        missing = [*more_rows(found.total - len(shown)), *_unsearched(looked)]
        return _said("found", page(shown, [_checked(looked), *faults], missing, "the service"))
    content = {
        "request_id": wanted.request_id,
        "rows": found.total,
        "segments": looked.all,
        "segments_searched": looked.searched,
        "problems": [{"segment": name, "what": what} for name, what in looked.problems],
        "decisions": _short(found.rows),
    }
    return _said("found", json.dumps(content))


def _said(outcome: Outcome, text: str) -> str:
    return f"{outcome}\n{text}"


class _Looked(NamedTuple):
    segments: "list[CheckedSegment]"  # that hold the id's bytes and are as they were written
    problems: list[tuple[str, str]]  # (segment, what is wrong) of others that do
    searched: int  # segments that were looked at
    all: int


def _look(wanted: Search) -> _Looked:
    from batchproof.service.journal.reader import check_segment, is_unbegun

    end_s = time.monotonic() + wanted.seconds
    needle = wanted.request_id.encode()
    paths = list(_candidates(wanted))
    segments: list[CheckedSegment] = []
    problems: list[tuple[str, str]] = []
    count = 0
    for path in paths:
        if time.monotonic() > end_s:
            break
        count += 1
        with contextlib.suppress(FileNotFoundError):  # journal_keep_s was over
            if _holds(path, needle) and not is_unbegun(path):
                try:
                    segments.append(check_segment(path))
                except JournalError as error:
                    path.stat()
                    problems.append((path.name, str(error).removeprefix(f"{path.name} ")))
    return _Looked(sorted(segments, key=lambda one: one.path.name), problems, count, len(paths))


def _candidates(wanted: Search) -> Iterator[Path]:
    """Give the segments that may have rows of the wanted time, the newest first. Raises OSError."""
    found = []
    for path in wanted.folder.iterdir():
        if path.name.endswith(SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path))
    least_s = 0.0 if wanted.since is None else wanted.since.timestamp() - CLOCK_S
    for written_s, path in sorted(found, reverse=True):
        if written_s < least_s:
            return
        if wanted.until is None or (started := _started(path)) is None or started <= wanted.until:
            yield path


def _started(path: Path) -> datetime | None:
    """Return when a segment was begun, as its head says; None where it cannot be told."""
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as file:
            metadata = pa.ipc.open_stream(file).schema.metadata or {}
        return datetime.fromisoformat(json.loads(metadata.get(METADATA, b"{}"))["started"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None


def _holds(path: Path, needle: bytes) -> bool:
    """Return whether the bytes of an id are in a file."""
    kept = b""
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            if needle in kept + part:
                return True
            kept = part[1 - len(needle) :] if len(needle) > 1 else b""
    return False


def _beside(models: Root) -> Sequence[BundleFolder]:
    """Return the bundles of a models folder, served or not; those at an address are only served ones: nothing is fetched."""
    if not isinstance(models, Path):
        return ()
    try:
        return repository.scan(models)[0]
    except BundleError:
        return ()


def _short(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first rows whose JSON is of a length that an answer may have, and at least one."""
    kept: list[dict[str, Any]] = []
    characters = 0
    for row in rows:
        characters += len(json.dumps(row))
        if kept and characters > ANSWER_CHARACTERS:
            break
        kept.append(row)
    return kept


def _unsearched(looked: _Looked) -> list[str]:
    if looked.searched == looked.all:
        return []
    count = f"{looked.searched} newest of {looked.all} segments"
    return [f"Only the {count} could be searched in time: the journal may hold more rows of this request."]


def _checked(looked: _Looked) -> str:
    count = len(looked.segments)
    which = "the segment that holds" if count == 1 else f"the {count} segments that hold"
    return f"{which} this request {'is as it was' if count == 1 else 'are as they were'} written"
