"""A block of rows of a table: what every format hands to the engine and to the writers.

A table is read block by block, and a block lives until its answer is written: memory holds a few blocks, whatever the
length of the table. Reading a block is vectorised where all of it is good; where it is not, every fault of it is found.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.errors import FeatureError, ServiceError, nearest
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import Encoder, Problem, listed, value_of
from batchproof.service.features.value_encoder import InvalidValueError
from batchproof.service.tables.parameters import Parameters

CACHED_ROWS = 2048  # that stay in the processor's cache while column after column is put into them


class Rows(NamedTuple):
    """What the queue and the journal know of a block: how many rows it has, which of them are good, and those as arrays."""

    total: int
    kept: Sequence[int]
    arrays: Arrays


class Read(NamedTuple):
    """A block's good rows as arrays, which rows of the block those are, and what is wrong with the others."""

    arrays: Arrays
    kept: Sequence[int]
    problems: Sequence[Problem]  # rows are numbered within the block


class Block(Protocol):
    """Rows that were read together."""

    rows: int
    csv_delimiter: str  # of an answer in CSV: the table's own where it is CSV

    def read(self) -> Read:
        """Return the rows as arrays."""
        ...

    def place(self, row: int) -> tuple[str, int]:
        """Return where the row of the block stands in the table: ("line", 12) or ("row", 11)."""
        ...

    def names(self) -> Sequence[str]:
        """Return the names of the columns that `cells` and `batch` hold."""
        ...

    def cells(self) -> Sequence[Sequence[str]]:
        """Return each row as the cells of a text table."""
        ...

    def csv_lines(self, delimiter: str) -> Sequence[bytes] | None:
        """Return each row as a line of CSV in UTF-8 without its end; None where `cells` must be written anew."""
        ...

    def lines(self) -> Sequence[bytes]:
        """Return each row as a JSON object."""
        ...

    def batch(self) -> Any:
        """Return the rows as a pyarrow RecordBatch."""
        ...


Blocks = Iterator[Block]


class Reading(NamedTuple):
    """What every reader needs to know."""

    encoder: Encoder
    parameters: Parameters
    block_rows: int
    max_bytes: int | None = None  # that a stranger's table may unpack to
    by_arrow: bool = False  # whether pyarrow, where it is installed, may parse lines of text; its memory is tens of MB

    @property
    def signature(self) -> Signature:
        """Return the model's signature."""
        return self.encoder.signature


def places_of(names: Sequence[str], reading: Reading, index: Collection[str] = ()) -> list[int]:
    """Return the place of each feature among a table's columns; raises 422 for names that do not fit.

    The target, columns that training ignored, and those of `index`, which number the rows of a data frame, may be there.
    """
    wanted = reading.encoder.names
    repeated = sorted({name for name in names if names.count(name) > 1})
    missing = [name for name in wanted if name not in names]
    passing = reading.signature.passing.union(index)
    extra = [name for name in names if name not in wanted and name not in passing]
    if missing:
        near = nearest(missing[0], extra)
        raise invalid_table(f"The table has no column {listed(missing)}.{near}")
    if extra and reading.parameters.extra == "refuse":
        near = nearest(extra[0], wanted)
        ignore = reading.parameters.spelled("extra", "ignore")
        raise invalid_table(
            f"The model has no feature {listed(extra)}; {ignore} copies such columns to the answer.{near}"
        )
    if repeated:
        raise invalid_table(f"The table has more than one column {listed(repeated)}.")
    return [names.index(name) for name in wanted]


def invalid_table(message: str) -> ServiceError:
    """Return 422 for a table that as a whole is not what the model takes."""
    return ServiceError(422, "invalid_table", message)


def broken_table(name: str, why: str) -> ServiceError:
    """Return 400 for bytes that are not a table of the format `name`."""
    return ServiceError(400, "broken_table", f"The table is not {name}, or is cut off or damaged: {why}.")


def out_of_memory(advice: str) -> ServiceError:
    """Return 413 for a table that takes more memory than it may have; `advice` is a clause."""
    return ServiceError(413, "batch_too_large", f"Reading the table takes more memory than it may have: {advice}.")


def differing_columns(names: Sequence[str], wanted: Sequence[str]) -> str:
    """Return in which columns a part of a table differs from the part whose columns are `wanted`; nothing if in none."""
    lacking = [name for name in wanted if name not in names]
    more = [name for name in names if name not in wanted]
    says = [f"it lacks {listed(lacking)}"] if lacking else []
    says += [f"it also has {listed(more)}"] if more else []
    if not says and sorted(names) != sorted(wanted):
        return "a column occurs in one of them more often"
    return " and ".join(says)


class Column(NamedTuple):
    """One feature's values: `fast` encodes all of them or raises FeatureError, `values` are their JSON values."""

    fast: Callable[[], np.ndarray]
    values: Callable[[], Sequence[Any]]


def read_columns(signature: Signature, rows: int, columns: Sequence[Column], bad: Collection[int] = ()) -> Read:
    """Encode one column a feature, each [rows]; rows in `bad` have no values and are left out."""
    problems: list[Problem] = []
    encoded: list[np.ndarray] = []
    for feature, column in zip(signature.inputs, columns, strict=True):
        try:
            encoded.append(column.fast())
        except FeatureError:
            encoded.append(np.zeros(rows))
            found = faults(feature, column.values(), encoded[-1])
            problems += [problem for problem in found if problem.row not in bad]
    problems.sort(key=lambda problem: problem.row or 0)
    left_out = {problem.row for problem in problems}.union(bad)
    if not left_out:
        return Read(_arrays(signature, encoded), range(rows), ())
    kept = [row for row in range(rows) if row not in left_out]
    return Read(_arrays(signature, [column[kept] for column in encoded]), kept, problems)


def _arrays(signature: Signature, columns: Sequence[np.ndarray]) -> Arrays:
    """Return one column a feature, each [rows] float64, as the graph's inputs."""
    named = list(zip(signature.inputs, columns, strict=True))
    numbers = [column for feature, column in named if feature.kind != "categorical"]
    codes = [column for feature, column in named if feature.kind == "categorical"]
    return Arrays(_by_rows(numbers, np.float64) if numbers else None, _by_rows(codes, np.int64) if codes else None)


def _by_rows(columns: Sequence[np.ndarray], kind: type) -> np.ndarray:
    """Return columns, each [rows], side by side, [rows, columns]."""
    table: np.ndarray = np.empty((len(columns[0]), len(columns)), kind)
    for start in range(0, len(table), CACHED_ROWS):
        part = slice(start, start + CACHED_ROWS)
        np.stack([column[part] for column in columns], axis=1, out=table[part], casting="unsafe")
    return table


def faults(feature: Feature, values: Sequence[Any], encoded: np.ndarray) -> list[Problem]:
    """Encode one by one into `encoded` [rows]; returns what is wrong with each value that the feature does not take."""
    codes, problems = feature.codes, []
    for row, value in enumerate(values):
        try:
            encoded[row] = value_of(feature, codes, value)
        except InvalidValueError as error:
            problems.append(Problem(row, feature.name, str(error)))
    return problems
