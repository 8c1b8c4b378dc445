"""One Arrow column to typed values: numbers, dates as epoch seconds, or categories."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchproof.service.bundle.signature import Kind, ValueType
from batchproof.service.features.dates import ends_in_year, epoch_seconds
from batchproof.service.features.text_cells import has_comma
from batchproof.training.data.table import TableError

MOST_STRAYS = 0.1  # share of the distinct values of a column of numbers that may be no number, to be told of it
TICKS_PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MICROSECONDS = 10**6
MOST = 1e100  # size of a feature's value: sums of squares of greater ones overflow


@dataclass(frozen=True)
class Column:
    """The typed values of one column."""

    name: str
    kind: Kind
    value_type: ValueType
    values: np.ndarray  # [rows] float64, NaN = missing; categorical: int64 places in `levels`, -1 = missing
    levels: tuple[Any, ...] = ()  # categorical: the distinct values, as JSON has them
    note: str = ""  # what a reader should know of how the column was read

    @property
    def is_missing(self) -> np.ndarray:
        """Which rows have no value [rows] bool."""
        return np.asarray(self.values < 0 if self.kind == "categorical" else np.isnan(self.values))

    def take(self, rows: np.ndarray) -> "Column":
        """Return the same column of other rows, by number [n] int64."""
        return replace(self, values=self.values[rows])


def typed(name: str, arrow: pa.ChunkedArray, wanted: Kind | None = None) -> Column | None:
    """Return the column with its kind inferred, or read as `wanted`; None where its type is no table value.

    Raises TableError where no row has a value, or where the values cannot be read as `wanted`.
    """
    if pa.types.is_dictionary(arrow.type):
        arrow = arrow.cast(arrow.type.value_type)
    if arrow.null_count == len(arrow):
        raise TableError(f"column {name!r} has no value in any row: leave it out with --drop {name!r}.")
    if pa.types.is_time(arrow.type) or pa.types.is_string_view(arrow.type):
        arrow = arrow.cast(pa.string())
    if wanted == "categorical":
        return _categorical(name, arrow)
    if value_type := _number_type(arrow.type):
        if wanted == "date":
            raise TableError(f"column {name!r} holds numbers, not ISO 8601 dates: do not name it in --date.")
        return _numeric(name, arrow, value_type)
    if pa.types.is_temporal(arrow.type) and not pa.types.is_duration(arrow.type):
        return Column(name, "date", "date", _ticks(arrow))
    if _is_text(arrow.type):
        return _text(name, arrow, wanted)
    return None


def _number_type(kind: pa.DataType) -> ValueType | None:
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    return "float" if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _numeric(name: str, arrow: pa.ChunkedArray, value_type: ValueType) -> Column:
    numbers = arrow.cast(pa.uint8()) if value_type == "boolean" else arrow
    values = numbers.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
    endless = int(np.isinf(values).sum())
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(values).all():
        raise TableError(f"column {name!r} has no finite value in any row: leave it out with --drop {name!r}.")
    note = f"{endless} infinite values read as missing" if endless else ""
    return Column(name, "numeric", value_type, values, note=note)


def _ticks(arrow: pa.ChunkedArray) -> np.ndarray:
    """Seconds since 1970 of dates and timestamps; digits beyond the microsecond are dropped, as the service does."""
    unit = arrow.type.unit if pa.types.is_timestamp(arrow.type) else "s"
    if not pa.types.is_timestamp(arrow.type):
        arrow = arrow.cast(pa.timestamp("s"))
    missing = arrow.is_null().to_numpy()
    ticks = pc.fill_null(arrow.cast(pa.int64()), 0).to_numpy()
    scale = TICKS_PER_S[unit]
    microseconds = ticks // (scale // MICROSECONDS) if scale > MICROSECONDS else ticks * (MICROSECONDS // scale)
    return np.asarray(np.where(missing, np.nan, microseconds / MICROSECONDS))


def _text(name: str, arrow: pa.ChunkedArray, wanted: Kind | None) -> Column:
    places, levels = _levels(arrow)
    if wanted == "numeric":
        return Column(name, "numeric", "float", _looked_up(places, _floats(name, levels)))
    seconds = _dates(name, levels, must=wanted == "date")
    if seconds is not None:
        return Column(name, "date", "date", _looked_up(places, seconds))
    _check_commas(name, levels)
    return Column(name, "categorical", "string", places, tuple(levels), _hint(name, levels))


def _check_commas(name: str, levels: list[str]) -> None:
    """Refuse numbers with commas: as categories they would tell the network nothing of their size."""
    comma = next((level for level in levels if has_comma(level)), None)
    if comma is not None and all(has_comma(level) or _is_number(level) for level in levels):
        raise TableError(
            f"column {name!r} holds numbers with commas, such as {comma[:40]!r}: write 3.14 for 3,14 and 1234 for "
            f"1,234, or name it in --categorical {name!r} to read it as text."
        )


def _hint(name: str, levels: list[str]) -> str:
    """Return what the owner of a column of text may want to know."""
    others = [level for level in levels if not _is_number(level)]
    if not others:
        return f"text that reads as numbers: --numeric {name!r} takes it so"
    if all(ends_in_year(level) for level in levels):
        return "dates read as text: write 2024-02-29 for 29.02.2024 and 2/29/2024"
    if len(others) <= MOST_STRAYS * len(levels):
        return (
            f"all but {len(others)} of {len(levels)} distinct values are numbers: with a number, or nothing, in place of "
            f"{others[0][:40]!r} it is read as numbers"
        )
    return ""


def _categorical(name: str, arrow: pa.ChunkedArray) -> Column:
    if pa.types.is_floating(arrow.type):
        whole = pc.all(pc.equal(pc.floor(arrow), arrow)).as_py()
        if not whole:
            raise TableError(f"column {name!r} holds fractions: they cannot be read as categories.")
        arrow = pc.if_else(pc.is_nan(arrow), None, arrow).cast(pa.int64())
    value_type: ValueType = "string"
    if pa.types.is_boolean(arrow.type):
        value_type = "boolean"
    elif pa.types.is_integer(arrow.type):
        value_type = "integer"
    elif not _is_text(arrow.type):
        raise TableError(f"column {name!r} holds {arrow.type} values: they cannot be read as categories.")
    places, levels = _levels(arrow)
    return Column(name, "categorical", value_type, places, tuple(levels))


def _levels(arrow: pa.ChunkedArray) -> tuple[np.ndarray, list[Any]]:
    """Return each row's place among the distinct values [rows] int64, -1 where missing, and the distinct values."""
    encoded = arrow.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    places = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return places, encoded.dictionary.to_pylist()


def _looked_up(places: np.ndarray, values: list[float]) -> np.ndarray:
    table = np.asarray([*values, np.nan])
    return table.take(places)  # place -1 is the NaN at the end


def _floats(name: str, levels: list[str]) -> list[float]:
    for level in levels:
        if not _is_number(level):
            hint = ": write 3.14 for 3,14 and 1234 for 1,234." if has_comma(level) else "."
            raise TableError(
                f"column {name!r} holds {level[:40]!r}, which is no finite number, but --numeric asks so{hint}"
            )
    return [float(level) for level in levels]


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _dates(name: str, levels: list[str], *, must: bool) -> list[float] | None:
    seconds = []
    for level in levels:
        try:
            seconds.append(epoch_seconds(level))
        except ValueError as error:
            if must:
                raise TableError(
                    f"column {name!r} holds {level[:40]!r}, which is no ISO 8601 date: {error}."
                ) from error
            return None
    return seconds


def check_range(column: Column) -> None:
    """Raise TableError where a number is too large to train on."""
    if column.kind == "numeric" and (far := np.nanmax(np.abs(column.values))) > MOST:
        raise TableError(
            f"column {column.name!r} holds a value of size {far:.3g}, and {MOST:g} is the most that training takes: "
            "leave such a cell empty if it stands for a missing value, or drop the column."
        )
