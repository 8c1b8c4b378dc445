"""Rows of named values to arrays, by the signature: order, types, category codes, missing values.

This is the precise path: it finds every problem and says what would be right. It holds no arithmetic on values.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.errors import closest
from batchproof.service.features.arrays import Arrays, split
from batchproof.service.features.value_encoder import InvalidValueError, code_of, number_of

DEFAULT_ERRORS = 20
DETAILED_ERRORS = 1000  # of all rows together, where each bad row is told its own
NAME_CHARACTERS = 200  # of an unknown name that are repeated to the caller
LISTED_NAMES = 10  # of features that one sentence names


class Problem(NamedTuple):
    """One thing wrong with a request: `row` or `feature` is None where it concerns no one of them."""

    row: int | None
    feature: str | None
    message: str


class Encoded(NamedTuple):
    """The good rows as arrays, which rows those are, and what was wrong with the others."""

    arrays: Arrays
    kept: list[int]  # positions of the rows in `arrays` among the rows given
    errors: list[Problem]
    truncated: bool  # whether looking stopped at the limit: later rows were not read


class Encoder:
    """The signature, arranged for encoding."""

    def __init__(self, signature: Signature) -> None:
        """Prepare the column of each feature and its category codes."""
        self.signature = signature
        self.names = tuple(feature.name for feature in signature.inputs)
        self._known = frozenset(self.names)
        self._allowed = self._known.union(signature.passing)
        self._codes = [feature.codes for feature in signature.inputs]

    def encode_rows(
        self, rows: Sequence[Any], columns: Sequence[Any] | None = None, limit: int | None = DEFAULT_ERRORS
    ) -> Encoded:
        """Encode rows that are objects {feature: value}, or lists in the order of `columns` or of the signature.

        The target and the columns that training left out may be there and are ignored; other names are problems.
        All problems are collected, up to `limit`; a row with a problem is left out of the arrays. With `limit` None every
        bad row has its problem: beyond DETAILED_ERRORS in all, its first one only.
        """
        errors: list[Problem] = []
        if columns is not None and (problem := self._column_problem(columns)):
            return Encoded(self._arrays([]), [], [problem], truncated=False)
        kept: list[int] = []
        encoded: list[list[float]] = []
        most = DETAILED_ERRORS if limit is None else limit
        for number, row in enumerate(rows):
            values = self._row(number, row, columns, errors, most)
            if limit is not None and len(errors) > limit:
                return Encoded(self._arrays(encoded), kept, errors[:limit], truncated=True)
            if values is not None:
                kept.append(number)
                encoded.append(values)
        return Encoded(self._arrays(encoded), kept, errors, truncated=False)

    def _column_problem(self, columns: Sequence[Any]) -> Problem | None:
        for name in columns:
            if not isinstance(name, str) or name not in self._allowed:
                return self._unknown(None, name, [])
        given = list(columns)
        for name in given:
            if given.count(name) > 1:
                return Problem(None, name, f"columns must name it once, not {given.count(name)} times")
        absent = [name for name in self.names if name not in given]
        also = f", as {'is' if len(absent) == 2 else 'are'} {listed(absent[1:])}" if absent[1:] else ""
        return Problem(None, absent[0], f"it is missing from columns{also}") if absent else None

    def _row(
        self, number: int, row: Any, columns: Sequence[str] | None, errors: list[Problem], most: int
    ) -> list[float] | None:
        """Return the row's numbers, or None after adding its problems, of which the first is added in any case."""
        named = self._named(number, row, columns, errors)
        if named is None:
            return None
        before = len(errors)
        for name in named:
            if name not in self._allowed:
                errors.append(self._unknown(number, name, errors))
                if len(errors) > most:
                    return None
        values = []
        for feature, codes in zip(self.signature.inputs, self._codes, strict=True):
            try:
                values.append(_encode(feature, codes, named))
            except InvalidValueError as error:
                errors.append(Problem(number, feature.name, str(error)))
                if len(errors) > most:
                    return None
        return values if len(errors) == before else None

    def _named(
        self, number: int, row: Any, columns: Sequence[str] | None, errors: list[Problem]
    ) -> Mapping[str, Any] | None:
        names = self.names if columns is None else columns
        if isinstance(row, dict) and columns is None:
            return row
        if not isinstance(row, list | tuple):
            wanted = "a list of values in the order of columns" if columns else "an object {feature: value} or a list"
            errors.append(Problem(number, None, f"a row is {wanted}"))
        elif len(row) != len(names):
            what = "features" if columns is None else "columns"
            errors.append(Problem(number, None, f"the row has {len(row)} values, but there are {len(names)} {what}"))
        else:
            return dict(zip(names, row, strict=True))
        return None

    def _unknown(self, row: int | None, name: Any, errors: list[Problem]) -> Problem:
        text = str(name)[:NAME_CHARACTERS]
        # The search takes time for each known name, so only the first few unknown names of a request get a suggestion.
        near = closest(text, self.names) if len(errors) < DEFAULT_ERRORS else None
        return Problem(row, text, f"unknown feature; did you mean {near!r}?" if near else "unknown feature")

    def _arrays(self, encoded: list[list[float]]) -> Arrays:
        table = np.array(encoded, dtype=np.float64).reshape(len(encoded), len(self.names))
        return split(self.signature, table)


def listed(names: Sequence[str]) -> str:
    """Return the first names in quotes, and how many more there are."""
    shown = ", ".join(repr(name[:NAME_CHARACTERS]) for name in names[:LISTED_NAMES])
    more = len(names) - LISTED_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _encode(feature: Feature, codes: dict[str, int], row: Mapping[str, Any]) -> float:
    if feature.name not in row:
        instead = "send null if it is not known" if feature.missing else "it was never missing in training"
        raise InvalidValueError(f"the feature is not in the row; {instead}")
    return value_of(feature, codes, row[feature.name])


def value_of(feature: Feature, codes: dict[str, int], value: Any) -> float:
    """Return a number, epoch seconds or a category code for one JSON value; raises InvalidValueError."""
    if feature.kind == "categorical":
        return code_of(feature, codes, value)
    return number_of(feature, value)
