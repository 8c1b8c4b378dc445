"""The columns that a prediction adds: `prediction`, or one for each target, their numbers, `error` where rows may fail."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import class_text
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import numbers_of
from batchproof.service.features.decoder import labels_of
from batchproof.service.features.row_encoder import Problem
from batchproof.service.tables.block import Block, invalid_table
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.csv_text import csv_text

MESSAGES = 5  # of one row that its error repeats


class Answered(NamedTuple):
    """A block, which of its rows ran, their outputs, and what was wrong with the others."""

    block: Block
    kept: Sequence[int]
    outputs: Mapping[str, np.ndarray]  # each [rows kept, width]
    problems: Sequence[Problem]


class ResultColumns:
    """The columns that an answer adds."""

    def __init__(self, manifest: Manifest, parameters: Parameters) -> None:
        """Name them."""
        classes = manifest.signature.classes
        prefix = parameters.prefix
        self.manifest = manifest
        self.has_errors = parameters.on_error == "row"
        self.datatype, self.labels = ("FP32", ()) if classes is None else labels_of(classes)
        self.output = "value" if classes is None else "probabilities"
        self.prediction = f"{prefix}prediction"  # also the one key of JSON Lines
        targets = manifest.signature.targets or ()
        self.predictions = [f"{prefix}prediction_{target}" for target in targets] or [self.prediction]
        self.probabilities = [f"{prefix}probability_{class_text(label)}" for label in classes or ()]
        self.quantiles = [f"{prefix}quantile_{level}" for level in manifest.quantile_keys]
        self.error = f"{prefix}error"
        self._ways_out = parameters.spelled("prefix", "…"), parameters.spelled("answer", "alone")
        numbers = [*self.probabilities, *self.quantiles]
        self.names = [*self.predictions, *numbers, *([self.error] if self.has_errors else [])]

    @property
    def keys(self) -> list[str]:
        """Return the keys that a line of JSON Lines may get."""
        return [self.prediction, *([self.error] if self.has_errors else [])]

    def check(self, names: Collection[str]) -> None:
        """Refuse with 422 a table that has a column of such a name already."""
        self._check("The table's column", names, self.names)

    def check_keys(self, names: Collection[str], place: tuple[str, int] | None = None) -> None:
        """Do so where the answer is JSON Lines: `names` are those of the line at `place`, or of the table's columns."""
        self._check(
            "The table's column" if place is None else f"{place[0].capitalize()} {place[1]}: the key",
            names,
            self.keys,
        )

    def _check(self, start: str, names: Collection[str], added: Sequence[str]) -> None:
        existing = next((name for name in added if name in names), None)
        if existing is not None:
            rename, alone = self._ways_out
            raise invalid_table(
                f"{start} {existing!r} has the same name as a result column. Use {rename} to rename the result columns, "
                f"or {alone} to omit the table's columns."
            )

    def cells(self, answered: Answered) -> list[list[str]]:
        """Return the added columns of each row as text: numbers in the shortest digits of their float32."""
        width = len(self.names)
        good_rows = self._good_cells(answered.outputs) if len(answered.kept) else []
        if len(answered.kept) == answered.block.rows:
            return [[*row, ""] for row in good_rows] if self.has_errors else good_rows
        cells = [[""] * width for _ in range(answered.block.rows)]
        for row, good in zip(answered.kept, good_rows, strict=True):
            cells[row][: len(good)] = good
        for row, sentence in sentences(answered.problems).items():
            cells[row][-1] = sentence
        return cells

    def pieces(self, answered: Answered, delimiter: str) -> list[Sequence[bytes]] | None:
        """Return the same cells as pieces of lines of CSV, a column of pieces after the other; None where a row did not run.

        The pieces of a row, joined, are its cells with `delimiter` between them.
        """
        rows = answered.block.rows
        if not rows or len(answered.kept) < rows:
            return None
        sign = delimiter.encode()
        pieces: list[Sequence[bytes]] = [self._digits(answered.outputs, sign)]
        if self.output != "value":
            labels = [csv_text([[class_text(label)]], delimiter)[:-1].encode() + sign for label in self.labels]
            winners = self.manifest.label_places(answered.outputs["probabilities"]).tolist()
            pieces.insert(0, [labels[winner] for winner in winners])
        return [*pieces, [sign] * rows] if self.has_errors else pieces

    def _digits(self, outputs: Mapping[str, np.ndarray], sign: bytes) -> list[bytes]:
        values = np.ascontiguousarray(numbers_of(outputs))
        text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2]
        return text.replace(b",", sign).split(b"]" + sign + b"[")

    def _good_cells(self, outputs: Mapping[str, np.ndarray]) -> list[list[str]]:
        rows = [digits.decode() for digits in self._digits(outputs, b",")]
        if self.output == "value":
            return [digits.split(",") for digits in rows]
        labels = [class_text(label) for label in self.labels]
        winners = self.manifest.label_places(outputs["probabilities"]).tolist()
        return [[labels[winner], *digits.split(",")] for winner, digits in zip(winners, rows, strict=True)]


def sentences(problems: Sequence[Problem]) -> dict[int, str]:
    """Return what is wrong with each bad row."""
    by_row: dict[int, list[str]] = {}
    for problem in problems:
        where = "" if problem.feature is None else f"feature {problem.feature!r}: "
        by_row.setdefault(problem.row or 0, []).append(where + problem.message)
    return {row: "; ".join(messages[:MESSAGES]) for row, messages in by_row.items()}


def details(block: Block, problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return the problems as a refusal lists them: by the line of a text, by the row of a table."""
    return [
        {**dict([block.place(problem.row or 0)]), "feature": problem.feature, "message": problem.message}
        for problem in problems
    ]


def refusal(block: Block, problems: Sequence[Problem], limit: int, parameters: Parameters) -> ServiceError:
    """Return 422 for a block with bad rows."""
    first = problems[0]
    kind, number = block.place(first.row or 0)
    where = f"{kind} {number}" + ("" if first.feature is None else f", feature {first.feature!r}")
    message = f"{where}: {first.message}.".replace("..", ".").replace("?.", "?")
    listed = details(block, problems[:limit])
    more = _more(len(problems) - 1, parameters)
    return ServiceError(422, "invalid_rows", message + more, details=listed, truncated=len(problems) > limit)


def _more(problems: int, parameters: Parameters) -> str:
    """Return where the other problems can be seen: in the details of the answer, or by running the command again."""
    if parameters.asked_in == "query":
        return f" ({problems} more in details.)" if problems else ""
    count = f" {problems} more were found;" if problems else ""
    return f"{count} {parameters.spelled('on_error', 'row')} answers the good rows and says what is wrong with the bad ones."
