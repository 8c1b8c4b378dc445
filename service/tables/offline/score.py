"""Score one file: one thread reads and encodes ahead, one thread writes behind, and the engine runs between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.model import Model
from batchproof.service.tables.block import Block, Blocks, Read, Reading
from batchproof.service.tables.codecs import blocks_of
from batchproof.service.tables.formats import pyarrow
from batchproof.service.tables.offline.jobs import Task
from batchproof.service.tables.offline.output import Output, ScoringOptions
from batchproof.service.tables.offline.parts import Parts
from batchproof.service.tables.offline.progress import Progress
from batchproof.service.tables.offline.sources import TablePath, format_of, open_source, parquet_files
from batchproof.service.tables.offline.threads import InOrder, Prefetch, WriteBehind
from batchproof.service.tables.writers.result_columns import Answered, refusal

ERROR_LIMIT = 20  # bad rows that a refusal counts
AHEAD = 4  # blocks that are read before the engine needs them
BEHIND = 12  # blocks that ran and are not written yet: more than one row group of an answer


class Done(NamedTuple):
    """What became of one file."""

    rows: int
    bad_rows: int
    rows_before: int  # that an earlier, interrupted job had answered


def score(model: Model, task: Task, way: ScoringOptions, progress: Progress) -> Done:
    """Score one file; raises ServiceError for a table that is refused, OSError where a file cannot be read or written.

    A thread reads and encodes, a thread writes, and `way.workers` threads run the engine on a block each. Blocks are
    written in the order of the table, so the file is the same for any number of workers.
    """
    written = format_of(task.target)
    reading = Reading(model.encoder, way.parameters, way.block_rows, by_arrow=True)
    with opened_blocks(task.source, reading) as blocks, Parts(task.target, _job(model, task, way)) as parts:
        rows_before = rows = parts.rows
        skip(blocks, rows_before)
        read = ((block, block.read()) for block in blocks)
        with (
            Output(parts, model, way, written) as output,
            Prefetch(read, AHEAD) as ahead,
            WriteBehind(BEHIND) as behind,
            InOrder(iter(ahead), partial(_answer, model, way), way.workers) as answers,
        ):
            for answered in answers:
                behind.put(partial(output.write, answered))
                rows += answered.block.rows
                progress.show(rows)
            behind.put(output.end)
            behind.finish()
        parts.publish(written)
    return Done(parts.rows, sum(part.bad_rows for part in parts.finished), rows_before)


@contextmanager
def opened_blocks(source: TablePath, reading: Reading) -> Iterator[Blocks]:
    """Open a file, or a folder of Parquet files, and yield its blocks."""
    if source.is_dir():
        pyarrow(format_of(source))
        from batchproof.service.tables.readers.parquet_folder import folder_blocks

        yield folder_blocks(source, parquet_files(source), reading)
        return
    file, fmt = open_source(source)
    with file:
        yield blocks_of(file, fmt, reading)


def skip(blocks: Blocks, rows: int) -> None:
    """Pass over the first `rows` rows, which end with a block: blocks of one table are the same each time."""
    while rows > 0:
        rows -= next(blocks).rows
    assert rows == 0, "a part ends where a block ends"


def _job(model: Model, task: Task, way: ScoringOptions) -> dict[str, Any]:
    choices = {**asdict(way.parameters), "block_rows": way.block_rows, "part_rows": way.part_rows}
    return {**task.key, "target": task.target.name, "model": model.fingerprint, **choices}


def _answer(model: Model, way: ScoringOptions, block_read: tuple[Block, Read]) -> Answered:
    """Run one block; raises ServiceError for a bad row that stops the job."""
    block, read = block_read
    if read.problems and way.parameters.on_error == "stop":
        raise refusal(block, read.problems, ERROR_LIMIT, way.parameters)
    outputs: Outputs = {}
    if len(read.kept):
        (outputs,) = model.runner.run([read.arrays])
    return Answered(block, read.kept, outputs, read.problems)
