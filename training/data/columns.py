"""One Arrow column to typed values: numbers, dates as epoch seconds, or categories."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchproof.service.bundle.signature import Feature, Kind, TextRule, ValueType
from batchproof.service.errors import FeatureError, ServiceError
from batchproof.service.features.columns import MAX_EXACT
from batchproof.service.features.row_encoder import listed
from batchproof.service.features.texts.text_cells import has_comma, missing_cells
from batchproof.service.tables.readers.arrow import encode_array
from batchproof.service.tables.readers.arrow_types import plain_type
from batchproof.training.data.column import Column, distinct
from batchproof.training.data.tables.table import RawTable
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.text.number_rules import numbers
from batchproof.training.data.text.text_columns import INFINITE, text_column
from batchproof.training.data.text.text_options import TextOptions, flag_text, options_of
from batchproof.training.settings import Settings

MOST = 1e100  # size of a feature's value: sums of squares of greater ones overflow
FIRST_SECOND = -62_135_596_800.0  # 0001-01-01T00:00:00Z, the first instant that ISO 8601 texts have
END_SECOND = 253_402_300_800.0  # 10000-01-01T00:00:00Z, the first one that they lack again
MARKS = (-1, -9, -99, -999, -9999, -99999, 99, 999, 9999, 99999, 999999)  # numbers that often mean a missing value
MANY_VALUES = 20  # least distinct values next to a mark of one digit, which could also be an ordinary small code


def typed(
    name: str, arrow: pa.ChunkedArray, wanted: Kind | None = None, options: TextOptions | None = None
) -> Column | None:
    """Return the column with its kind inferred, or read as `wanted`; None where its type cannot be a feature.

    Raises TableError where no row has a value, or where the values cannot be read as `wanted`.
    """
    options = options or TextOptions()
    arrow = plain_type(arrow)
    if pa.types.is_dictionary(arrow.type):
        arrow = arrow.cast(arrow.type.value_type)
    if arrow.null_count == len(arrow):
        raise TableError(f"column {name!r} has no value in any row: leave it out with {flag_text('drop', name)}.")
    if _is_text(arrow.type):
        return _text(name, arrow, wanted, options)
    if wanted == "categorical" or options.as_text:
        return _categorical(name, arrow, options)
    if value_type := _number_type(arrow.type):
        if wanted == "date":
            raise TableError(f"column {name!r} holds numbers, not ISO 8601 dates: do not name it in --date.")
        return _numeric(name, arrow, value_type, options)
    if pa.types.is_timestamp(arrow.type) or pa.types.is_date(arrow.type):
        return _date(name, arrow, options)
    return None


def check_range(column: Column) -> None:
    """Raise TableError for a number that training cannot use, or a date that other formats cannot express."""
    if column.kind == "numeric" and (greatest := np.nanmax(np.abs(column.values))) > MOST:
        raise TableError(
            f"column {column.name!r} holds a value of size {greatest:.3g}, and {MOST:g} is the most that training accepts: "
            "leave such a cell empty if it stands for a missing value, or drop the column."
        )
    if column.kind == "date":
        beyond = (column.values < FIRST_SECOND) | (column.values >= END_SECOND)
        if beyond.any():
            raise TableError(
                f"column {column.name!r} holds a date outside of the years 1 to 9999, in {int(beyond.sum())} rows: "
                "leave such a cell empty if it stands for a missing value, or drop the column."
            )


def mark_warning(column: Column) -> str | None:
    """Return a sentence on a number far from all others that may stand for a missing value, such as -999."""
    if column.kind != "numeric" or column.value_type == "boolean":
        return None
    values, counts = np.unique(column.values[~column.is_missing], return_counts=True)
    for place in (0, -1):
        rest = np.delete(values, place)
        mark = values[place]
        if mark not in MARKS or counts[place] < 2 or len(rest) < 2:
            continue
        is_far = (mark < 0 <= rest[0]) if place == 0 else mark > rest[-1] + (rest[-1] - rest[0])
        if is_far and (abs(mark) > 9 or len(rest) > MANY_VALUES):
            setting = f"{column.name}={mark:g}"
            return (
                f"{counts[place]} rows hold {mark:g}, and all other values lie between {rest[0]:g} and {rest[-1]:g}; if it "
                f"stands for a missing value, {flag_text('missing', setting)} reads it so"
            )
    return None


def _number_type(kind: pa.DataType) -> ValueType | None:
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    return "float" if pa.types.is_floating(kind) else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _text(name: str, arrow: pa.ChunkedArray, wanted: Kind | None, options: TextOptions) -> Column:
    column = text_column(name, arrow, wanted, options)
    if column.kind == "categorical" and not options.is_cells and wanted is None and not options.as_text:
        _check_commas(name, column.levels)
    return column


def _check_commas(name: str, levels: tuple[str, ...]) -> None:
    """Refuse numbers with commas in a typed table: as categories they would lose their order and size."""
    comma = next((level for level in levels if has_comma(level)), None)
    if comma is not None and all(has_comma(level) or numbers([level], TextRule())[0] is not None for level in levels):
        raise TableError(
            f"column {name!r} holds numbers with commas, such as {comma[:40]!r}: write 3.14 for 3,14 and 1234 for "
            f"1,234, name it in {flag_text('numeric', name)} with --decimal , or --thousands , to read it as numbers, or "
            f"name it in {flag_text('text', name)} to read it as text."
        )


def _numeric(name: str, arrow: pa.ChunkedArray, value_type: ValueType, options: TextOptions) -> Column:
    is_infinite = _any_infinite(arrow)
    missing = (*options.missing, *(INFINITE if is_infinite else ()))
    rule = TextRule(missing=missing) if missing else None
    values = _encoded(Feature(name=name, kind="numeric", value_type=value_type, missing=True, text_rule=rule), arrow)
    if np.isnan(values).all():
        raise TableError(
            f"column {name!r} has no finite value in any row: leave it out with {flag_text('drop', name)}."
        )
    note, warnings = "", []
    if is_infinite:
        count = pc.sum(pc.is_inf(arrow)).as_py()
        note = f"{count} infinite values read as missing"
        warnings.append(f"{note}; leave such cells empty to have no warning")
    if value_type == "integer" and np.nanmax(np.abs(values)) >= MAX_EXACT:
        warnings.append(
            f"it holds whole numbers beyond 2^53, which are read as the nearest float64; {flag_text('categorical', name)} "
            "keeps them apart"
        )
    return Column(name, "numeric", value_type, values, note=note, rule=rule, warnings=tuple(warnings))


def _any_infinite(arrow: pa.ChunkedArray) -> bool:
    if pa.types.is_float16(arrow.type):  # which older versions of pyarrow have no is_inf for
        arrow = arrow.cast(pa.float32())
    return bool(pa.types.is_floating(arrow.type) and pc.any(pc.is_inf(arrow)).as_py())


def _date(name: str, arrow: pa.ChunkedArray, options: TextOptions) -> Column:
    rule = TextRule(missing=options.missing) if options.missing else None
    feature = Feature(name=name, kind="date", value_type="date", missing=True, text_rule=rule)
    return Column(name, "date", "date", _encoded(feature, arrow), rule=rule)


def _encoded(feature: Feature, arrow: pa.ChunkedArray) -> np.ndarray:
    """Encode a typed column as scoring does, [rows] float64."""
    try:
        return np.concatenate([encode_array(feature, chunk) for chunk in arrow.chunks])
    except (FeatureError, ServiceError) as error:
        reason = error.message if isinstance(error, ServiceError) else str(error)
        raise TableError(f"column {feature.name!r} cannot be read: {reason.rstrip('.')}.") from error


def _categorical(name: str, arrow: pa.ChunkedArray, options: TextOptions) -> Column:
    if pa.types.is_floating(arrow.type):
        arrow = _whole(name, arrow)
    value_type: ValueType = "integer"
    if pa.types.is_boolean(arrow.type):
        value_type = "boolean"
    elif not pa.types.is_integer(arrow.type):
        raise TableError(f"column {name!r} holds {arrow.type} values: they cannot be read as categories.")
    places, levels = distinct(arrow)
    column = Column(name, "categorical", value_type, places, tuple(levels))
    return _without_marks(column, options) if options.missing else column


def _whole(name: str, arrow: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return floats as whole numbers; raises TableError where they are not, or lie beyond 64 bits."""
    arrow = pc.if_else(pc.is_nan(arrow), None, arrow)
    if not pc.all(pc.equal(pc.floor(arrow), arrow)).as_py():
        raise TableError(f"column {name!r} holds fractions: they cannot be read as categories.")
    try:
        return arrow.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise TableError(
            f"column {name!r} holds numbers beyond 64-bit integers: they cannot be read as categories, unless the table "
            "holds them as text."
        ) from error


def _without_marks(column: Column, options: TextOptions) -> Column:
    """Return the categories without those that mean a missing value."""
    rule = TextRule(missing=options.missing)
    marks = {number for number in numbers(options.missing, rule) if number is not None}
    is_mark = np.asarray([not isinstance(level, bool) and level in marks for level in column.levels])
    table = np.asarray([*np.where(is_mark, -1, np.cumsum(~is_mark) - 1), -1], np.int64)
    levels: tuple[Any, ...] = tuple(level for level, gone in zip(column.levels, is_mark, strict=True) if not gone)
    return replace(column, values=table.take(column.values), levels=levels, rule=rule)


def check_empty(table: RawTable, names: list[str], settings: Settings) -> None:
    """Raise TableError, one for all columns without a value."""
    empty = [name for name in names if _is_empty(table, name, settings)]
    if len(empty) > 1:
        raise TableError(
            f"columns {listed(empty)} have no value in any row: leave them out with {flag_text('drop', ','.join(empty))}."
        )


def _is_empty(table: RawTable, name: str, settings: Settings) -> bool:
    """Whether no row of a column has a value."""
    arrow = table.arrow.column(name)
    if arrow.null_count == len(arrow):
        return True
    if not table.is_text:
        return False
    missing = missing_cells(options_of(name, settings, is_cells=True).rule)
    first = next((cell for cell in arrow.slice(0, 1).to_pylist() if cell.strip() not in missing), None)
    return first is None and all(cell.strip() in missing for cell in arrow.unique().to_pylist())
