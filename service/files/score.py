"""One file, scored: a thread reads and encodes ahead, a thread writes behind, the engine runs between them."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from service.files.parts import Parts
from service.files.plan import Task, format_of, open_source
from service.files.progress import Progress
from service.model import Model
from service.tables.block import Block, Blocks, Read, Reading
from service.tables.formats import Format
from service.tables.parameters import Parameters
from service.tables.predictions import Answered, refusal
from service.tables.table import blocks_of, writer_of

ERROR_LIMIT = 20  # bad rows that a refusal counts


class Way(NamedTuple):
    """How files are scored."""

    parameters: Parameters
    block_rows: int
    part_rows: int


class Done(NamedTuple):
    """What became of one file."""

    rows: int
    bad_rows: int
    rows_before: int  # that an earlier, interrupted job had answered


def score(model: Model, task: Task, way: Way, progress: Progress) -> Done:
    """Score one file; raises ServiceError for a table that is refused, OSError where a file cannot be had."""
    file, found = open_source(task.source)
    threads = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    with file, Parts(task.target, _job(model, task, way)) as parts, threads[0] as reading, threads[1] as writing:
        rows_before = parts.rows
        blocks = blocks_of(file, found, Reading(model.encoder, way.parameters, way.block_rows))
        skip(blocks, rows_before)
        answers = _answers(model, way, _read_ahead(blocks, reading))
        _write_parts(model, task, way, answers, parts, writing, progress)
        parts.publish(format_of(task.target))
    return Done(parts.rows, sum(part.bad_rows for part in parts.finished), rows_before)


def skip(blocks: Blocks, rows: int) -> None:
    """Pass over the first `rows` rows, which end with a block: blocks of one table are the same each time."""
    while rows > 0:
        rows -= next(blocks).rows
    assert rows == 0, "a part ends where a block ends"


def _job(model: Model, task: Task, way: Way) -> dict[str, Any]:
    choices = {**asdict(way.parameters), "block_rows": way.block_rows, "part_rows": way.part_rows}
    return {**task.key, "target": task.target.name, "model": model.fingerprint, **choices}


def _read_ahead(blocks: Blocks, reading: ThreadPoolExecutor) -> Iterator[tuple[Block, Read]]:
    def step() -> tuple[Block, Read] | None:
        block = next(blocks, None)
        return None if block is None else (block, block.read())

    upcoming = reading.submit(step)
    while (found := upcoming.result()) is not None:
        upcoming = reading.submit(step)
        yield found


def _answers(model: Model, way: Way, found: Iterator[tuple[Block, Read]]) -> Iterator[Answered]:
    for block, read in found:
        if read.problems and way.parameters.on_error == "stop":
            raise refusal(block, read.problems, ERROR_LIMIT)
        outputs: dict[str, np.ndarray] = {}
        if len(read.kept):
            (outputs,) = model.runner.run([read.arrays])
        yield Answered(block, read.kept, outputs, read.problems)


def _write_parts(
    model: Model,
    task: Task,
    way: Way,
    answers: Iterator[Answered],
    parts: Parts,
    writing: ThreadPoolExecutor,
    progress: Progress,
) -> None:
    written = format_of(task.target)
    while True:
        with parts.next_file() as file:
            part = _Part(file, model, way, written, is_first=not parts.finished)
            for answered in answers:
                part.write(answered, writing)
                progress.show(parts.rows + part.rows)
                if part.rows >= way.part_rows:
                    break
            part.end()
        if part.rows or not parts.finished:
            parts.finish(part.rows, part.bad_rows)
        if part.rows < way.part_rows:
            return


class _Part:
    """The part that is being written; one block is written while the next runs."""

    def __init__(self, file: BinaryIO, model: Model, way: Way, written: Format, *, is_first: bool) -> None:
        self._file = file
        self._writer = writer_of(written, model, way.parameters, has_head=is_first)
        self._pending: Future[int] | None = None
        self.rows = 0
        self.bad_rows = 0

    def write(self, answered: Answered, writing: ThreadPoolExecutor) -> None:
        self._wait()
        self.rows += answered.block.rows
        self.bad_rows += answered.block.rows - len(answered.kept)
        self._pending = writing.submit(lambda: self._file.write(self._writer.write(answered)))

    def end(self) -> None:
        self._wait()
        self._file.write(self._writer.end())

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
