"""Answers as CSV, TSV, JSON Lines and JSON, block by block."""

from collections.abc import Sequence
from typing import Protocol

import orjson

from batchproof.service.features.row_encoder import Problem
from batchproof.service.inference.model import Described
from batchproof.service.protocols.json_text.prediction_text import PredictionText
from batchproof.service.runtime.json_bytes import compact
from batchproof.service.tables.block import Block
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.csv_text import csv_text
from batchproof.service.tables.writers.result_columns import Answered, ResultColumns, details, sentences


class Writer(Protocol):
    """Turns answered blocks into the bytes of one table."""

    def write(self, answered: Answered) -> bytes:
        """Return the next bytes."""
        ...

    def end(self) -> bytes:
        """Return the last bytes; a table without a row is a table too."""
        ...


class TextWriter:
    """CSV or TSV with a header."""

    def __init__(
        self, model: Described, parameters: Parameters, delimiter: str | None, *, has_head: bool = True
    ) -> None:
        """Prepare the header; without a `delimiter` it is that of the table."""
        self._added = ResultColumns(model.manifest, parameters)
        self._appends = parameters.answer == "append"
        self._delimiter = delimiter
        self._has_begun = not has_head

    def write(self, answered: Answered) -> bytes:
        """Return the rows, and the header before the first ones."""
        block, delimiter = answered.block, self._delimiter or answered.block.csv_delimiter
        head = b"" if self._has_begun else self._text([self._header(block.names() if self._appends else ())], delimiter)
        self._has_begun = True
        lines = self._lines(answered, delimiter)
        if lines is not None:
            return head + lines
        rows: Sequence[Sequence[str]] = self._added.cells(answered)
        if self._appends:
            rows = [[*own, *new] for own, new in zip(block.cells(), rows, strict=True)]
        return head + self._text(rows, delimiter)

    def _lines(self, answered: Answered, delimiter: str) -> bytes | None:
        """Return the rows as lines, where the table's own lines go on as they are; None elsewhere."""
        own = answered.block.csv_lines(delimiter) if self._appends else ()
        added = None if own is None else self._added.pieces(answered, delimiter)
        if own is None or added is None:
            return None
        rows = answered.block.rows
        begun = [own, [delimiter.encode()] * rows] if self._appends else []
        columns = [*begun, *added, [b"\n"] * rows]
        pieces = [b""] * (len(columns) * rows)
        for place, column in enumerate(columns):
            pieces[place :: len(columns)] = column
        return b"".join(pieces)

    def end(self) -> bytes:
        """Return the header if there was no row."""
        return b"" if self._has_begun else self._text([self._added.names], self._delimiter or ",")

    def _header(self, names: Sequence[str]) -> list[str]:
        self._added.check(names)
        return [*names, *self._added.names]

    def _text(self, rows: Sequence[Sequence[str]], delimiter: str) -> bytes:
        return csv_text(rows, delimiter).encode()


class LinesWriter:
    """JSON Lines: the rows with an added key `prediction`, or only the predictions."""

    def __init__(self, model: Described, parameters: Parameters) -> None:
        """Prepare the text of predictions."""
        self._text = PredictionText(model.manifest)
        self._added = ResultColumns(model.manifest, parameters)
        self._appends = parameters.answer == "append"
        self._spelled = [*map(orjson.dumps, self._added.keys), b"\\"]  # a backslash may spell any of them otherwise
        self._prediction = b"," + orjson.dumps(self._added.prediction) + b":"
        self._error = b"," + orjson.dumps(self._added.error) + b":"

    def write(self, answered: Answered) -> bytes:
        """Return one line a row."""
        texts = prediction_texts(self._text, answered)
        if not self._appends:
            return b"".join([text + b"\n" for text in texts])
        lines = answered.block.lines()
        self._check(answered.block, lines)
        bad = sentences(answered.problems)
        parts = []
        for row, (line, text) in enumerate(zip(lines, texts, strict=True)):
            key, value = (self._error, text[9:-1]) if row in bad else (self._prediction, text)  # inside {"error":…}
            parts += [line[:-1], key if len(line) > 2 else key[1:], value, b"}\n"]
        return b"".join(parts)

    def end(self) -> bytes:
        """Return nothing: lines need no end."""
        return b""

    def _check(self, block: Block, lines: Sequence[bytes]) -> None:
        """Raise 422 where the block's columns, or one of its lines, have an added key already."""
        self._added.check_keys(block.names())
        whole = b"".join(lines)
        if not any(spelled in whole for spelled in self._spelled):
            return
        for row, line in enumerate(lines):
            if any(spelled in line for spelled in self._spelled):
                self._added.check_keys(orjson.loads(line), block.place(row))


class JsonWriter:
    """The native answer, {"predictions": [...], "model": {...}, "request_id": "..."}."""

    def __init__(self, model: Described, request_id: str) -> None:
        """Prepare the text of predictions and the end."""
        manifest = model.manifest
        described = {"name": manifest.name, "version": manifest.version, "fingerprint": model.fingerprint}
        self._text = PredictionText(manifest)
        self._head = b'{"predictions":['
        self._tail = b'],"model":' + orjson.dumps(described) + b',"request_id":"' + request_id.encode() + b'"}'
        self._between = b""

    def write(self, answered: Answered) -> bytes:
        """Return the rows' predictions."""
        texts = prediction_texts(self._text, answered)
        head, self._head = self._head, b""
        between = self._between
        if texts:
            self._between = b","
        return head + (between if texts else b"") + b",".join(texts)

    def end(self) -> bytes:
        """Return the end of the object."""
        return self._head + self._tail


def prediction_texts(text: PredictionText, answered: Answered) -> Sequence[bytes]:
    """Return each row's prediction, or its error, as JSON."""
    good_texts = text.each(answered.outputs) if len(answered.kept) else []
    if not answered.problems:
        return good_texts
    texts = [b""] * answered.block.rows
    for row, good in zip(answered.kept, good_texts, strict=True):
        texts[row] = good
    by_row: dict[int, list[Problem]] = {}
    for problem in answered.problems:
        by_row.setdefault(problem.row or 0, []).append(problem)
    for row, sentence in sentences(answered.problems).items():
        row_details = details(answered.block, by_row[row])
        texts[row] = compact({"error": {"code": "invalid_row", "message": sentence, "details": row_details}})
    return texts
