"""Read a journal back: every byte that a digest covers is checked before a row of it is used."""

import base64
import binascii
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchproof.service.errors import JournalError
from batchproof.service.journal.entries import FORMAT, FORMAT_VERSION, METADATA
from batchproof.service.journal.segment import END, SUFFIX, SUMS_SUFFIX, sums_path

Verify = Callable[[bytes, bytes], bool]  # (signature, message) -> whether a trusted key made it
SUMS_BYTES = 64 << 20
TORN_BYTES = 100  # more than a line has
TORN = re.compile(rb"\d+( [0-9a-f]{0,64})?")  # what a kill may leave of a line; a finished one has its mark


@dataclass(frozen=True)
class Covered:
    """What the file of digests says: each line's size and SHA-256, and whether the segment was finished and signed."""

    lines: Sequence[tuple[int, str]]
    is_finished: bool
    signature: bytes | None = None

    @property
    def bytes(self) -> int:
        """Return how much of the segment is covered."""
        return self.lines[-1][0]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of that part."""
        return self.lines[-1][1]


@dataclass(frozen=True)
class CheckedSegment:
    """A segment whose covered bytes are as they were written."""

    path: Path
    header: Mapping[str, Any]
    covered: Covered
    signed: bool = False
    schema: pa.Schema = field(default=None, repr=False)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the covered rows; raises JournalError where the file is not what was checked."""
        with self.path.open("rb") as file:
            raw = pa.py_buffer(file.read(self.covered.bytes))
        try:
            with pa.ipc.open_stream(pa.BufferReader(raw)) as stream:
                yield from _until_end(stream)
        except pa.ArrowException as error:
            raise JournalError(f"{self.path.name} cannot be read: {error}") from error


@dataclass(frozen=True)
class Problem:
    """A segment that is not as it was written, or not where it belongs."""

    segment: str
    what: str


def check(folder: Path, verify: Verify | None = None) -> tuple[list[CheckedSegment], list[Problem]]:
    """Check every segment of a journal, its digests, its chain, and its signature where `verify` is given.

    Raises JournalError where there is no journal.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX)) if folder.is_dir() else []
    except OSError as error:
        raise JournalError(f"{folder} cannot be listed: {error.strerror}") from error
    if not paths:
        raise JournalError(f"{folder} holds no journal: there is no file *{SUFFIX}")
    segments: list[CheckedSegment] = []
    problems: list[Problem] = []
    for path in paths:
        if is_unbegun(path):
            continue
        try:
            segments.append(check_segment(path, verify))
        except JournalError as error:
            problems.append(Problem(path.name, str(error)))
    known = {path.name for path in paths}
    digests = [path.name.removesuffix(SUMS_SUFFIX) for path in sorted(folder.glob(f"*{SUFFIX}{SUMS_SUFFIX}"))]
    problems += [
        Problem(name, "it is missing; its digests are there")
        for name in digests
        if name not in known and not is_unbegun(folder / name)
    ]
    problems += _chain_problems(segments)
    return segments, problems


def is_unbegun(path: Path) -> bool:
    """Return whether a kill came before the first line of digests was whole: nothing of the segment was promised."""
    try:
        with sums_path(path).open("rb") as file:
            start = file.read(TORN_BYTES)
    except OSError:
        return False
    return not start or TORN.fullmatch(start) is not None


def check_segment(path: Path, verify: Verify | None = None) -> CheckedSegment:
    """Check one segment; raises JournalError with what is wrong."""
    covered = _covered(path)
    sha256, place, lines = hashlib.sha256(), 0, list(covered.lines)
    with path.open("rb") as file:
        for end, digest in lines:
            sha256.update(file.read(end - place))
            if file.tell() != end:
                raise JournalError(f"{path.name} has {file.tell()} bytes, but {end} were written")
            if sha256.hexdigest() != digest:
                raise JournalError(f"{path.name} was changed between byte {place} and byte {end}")
            place = end
    rest = path.stat().st_size - covered.bytes
    if rest and covered.is_finished:
        raise JournalError(f"{path.name} has {rest} bytes more than were written")
    signed = False
    if verify is not None and covered.is_finished:
        if covered.signature is None or not verify(covered.signature, covered.digest.encode()):
            raise JournalError(f"{path.name} has no signature of a trusted key")
        signed = True
    header, schema = _header(path, covered)
    return CheckedSegment(path, header, covered, signed, schema)


def _covered(path: Path) -> Covered:
    sums = sums_path(path)
    try:
        raw = sums.read_bytes() if sums.stat().st_size <= SUMS_BYTES else b""
    except OSError as error:
        raise JournalError(f"{sums.name}, which holds its digests, cannot be read: {error.strerror}") from error
    whole, _, torn = raw.rpartition(b"\n")
    lines: list[tuple[int, str]] = []
    is_finished, signature = False, None
    for line in whole.split(b"\n") if whole else []:
        words = line.decode("ascii", "replace").split(" ")
        shape = len(words) in (2, 3, 4) and words[0].isdecimal() and len(words[1]) == 64
        if is_finished or not shape or (len(words) > 2 and words[2] != END) or (lines and int(words[0]) < lines[-1][0]):
            raise JournalError(f"{sums.name} was changed: line {len(lines) + 1} is not one that was written")
        lines.append((int(words[0]), words[1]))
        if len(words) > 2:
            is_finished, signature = True, _signature(sums, words[3:])
    if not lines or (torn and (is_finished or not TORN.fullmatch(torn))):
        raise JournalError(
            f"{sums.name} was changed: it has no whole line" if not lines else f"{sums.name} was changed"
        )
    return Covered(lines, is_finished, signature)


def _signature(sums: Path, words: Sequence[str]) -> bytes | None:
    try:
        return base64.b64decode(words[0], validate=True) if words else None
    except binascii.Error as error:
        raise JournalError(f"{sums.name} was changed: its signature is not Base64") from error


def _header(path: Path, covered: Covered) -> tuple[dict[str, Any], pa.Schema]:
    with path.open("rb") as file:
        raw = pa.py_buffer(file.read(covered.lines[0][0]))
    try:
        schema = pa.ipc.open_stream(pa.BufferReader(raw)).schema
        header = json.loads((schema.metadata or {}).get(METADATA, b"{}"))
    except (pa.ArrowException, ValueError) as error:
        raise JournalError(f"{path.name} is not a segment of a journal: {error}") from error
    if header.get("format") != FORMAT or header.get("format_version") != FORMAT_VERSION:
        raise JournalError(f"{path.name} is not a segment of a journal of version {FORMAT_VERSION}")
    return header, schema


def _chain_problems(segments: Sequence[CheckedSegment]) -> Iterator[Problem]:
    """Give the segments that do not follow the one before them.

    The first of a chain may be missing, and its next ones with it: retention removes old segments. One in between may not.
    """
    chains: dict[str, list[CheckedSegment]] = defaultdict(list)
    for segment in segments:
        chains[str(segment.header["chain"])].append(segment)
    for chain in chains.values():
        chain.sort(key=lambda segment: int(segment.header["sequence"]))
        for before, after in pairwise(chain):
            number = int(before.header["sequence"])
            if int(after.header["sequence"]) == number:
                yield Problem(after.path.name, f"it has the same place in its chain as {before.path.name}")
            elif int(after.header["sequence"]) != number + 1:
                yield Problem(after.path.name, f"a segment before it is missing: {before.path.name} is number {number}")
            elif not before.covered.is_finished:
                yield Problem(before.path.name, f"it was never finished, but {after.path.name} follows it")
            elif after.header["previous"] != before.covered.digest:
                yield Problem(after.path.name, f"it follows another segment than {before.path.name}")


def _until_end(stream: pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    """Give the batches; an unfinished segment ends without a mark."""
    while True:
        try:
            batch = stream.read_next_batch()
        except StopIteration:
            return
        yield batch
