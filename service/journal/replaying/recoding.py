"""Journalled rows of one version as another version's inputs: feature by feature, by their names."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.errors import FeatureError
from batchproof.service.features.arrays import Arrays, split
from batchproof.service.features.columns import encode_column
from batchproof.service.features.row_encoder import value_of
from batchproof.service.features.value_encoder import InvalidValueError
from batchproof.service.journal.entries import INPUT
from batchproof.service.journal.values import shown


class Recoded(NamedTuple):
    """The rows that the other version takes."""

    arrays: Arrays
    kept: np.ndarray  # [n] int64: which rows of the batch those are
    refused: dict[str, int]  # why the other version would refuse rows -> how many
    unsure: int  # rows with a category that the answering version did not know: the journal has no text of it


def recode(batch: pa.RecordBatch, given: Signature, wanted: Signature) -> Recoded:
    """Encode rows anew; raises FeatureError where the journal does not hold a feature that is wanted."""
    known = {feature.name: feature for feature in given.inputs}
    columns: list[np.ndarray] = []
    good = np.ones(batch.num_rows, bool)
    unsure = np.zeros(batch.num_rows, bool)
    refused: dict[str, int] = {}
    for feature in wanted.inputs:
        column = f"{INPUT}{feature.name}"
        if feature.name not in known or column not in batch.schema.names or pa.types.is_binary(batch[column].type):
            raise FeatureError(f"the journal does not hold the feature {feature.name!r}")
        source = known[feature.name]
        values = batch[column].to_numpy(zero_copy_only=False)
        encoded, faults = _encode(source, feature, values)
        for row, why in faults:
            if good[row]:
                sentence = f"{feature.name}: {why}"
                refused[sentence] = refused.get(sentence, 0) + 1
            good[row] = False
        columns.append(encoded)
        if source.kind == "categorical":
            unsure |= values == source.unseen_code
    table = np.stack(columns, axis=1)
    kept = np.flatnonzero(good)
    return Recoded(split(wanted, table[kept]), kept, refused, int(unsure[kept].sum()))


def _encode(source: Feature, wanted: Feature, values: np.ndarray) -> tuple[np.ndarray, Iterable[tuple[int, str]]]:
    """Return one feature's values in the other version's numbers or codes, [rows] float64, and what it refuses."""
    if source == wanted:
        return values.astype(np.float64), ()
    if source.kind == wanted.kind == "numeric":
        try:
            return encode_column(wanted, values.astype(np.float64)), ()
        except FeatureError:
            pass
    distinct, places = np.unique(values, return_inverse=True)
    codes = wanted.codes
    numbers = np.zeros(len(distinct))
    faults: dict[int, str] = {}
    for place, number in enumerate(distinct.tolist()):
        try:
            numbers[place] = _one(source, wanted, codes, number)
        except InvalidValueError as error:
            faults[place] = str(error)
    bad = [(row, faults[place]) for row, place in enumerate(places.tolist()) if place in faults] if faults else []
    return numbers[places], bad


def _one(source: Feature, wanted: Feature, codes: dict[str, int], number: float) -> float:
    """Return one value as the other version has it; raises InvalidValueError."""
    if source.kind == wanted.kind == "categorical":
        if number == source.unseen_code:
            return wanted.unseen_code
        text = None if number == source.missing_code else (source.categories or ())[int(number)]
        if text is not None:
            return codes.get(text, wanted.unseen_code)
        if not wanted.missing:
            raise InvalidValueError("it is missing, and it was never missing in training")
        return wanted.missing_code
    value = shown(source, number).value
    if source.kind == "categorical" and isinstance(value, str):
        value = _plain(source, value)
    return value_of(wanted, codes, value)


def _plain(source: Feature, text: str) -> str | int | bool:
    """Return a category as the JSON value that it was: a text, a whole number, true or false."""
    if source.value_type == "integer":
        return int(text)
    return text == "true" if source.value_type == "boolean" else text
