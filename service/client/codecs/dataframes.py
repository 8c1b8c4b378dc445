"""Convert pandas and polars frames: columns to values, and predictions to added columns.

Neither library is imported here: a caller that sends a frame has its library.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from batchproof.service.client.codecs.values import json_values

if TYPE_CHECKING:
    import numpy as np

# [rows]: an array of bool, numbers with NaN where missing, or datetime64; else JSON values with None where missing.
ColumnValues: TypeAlias = "np.ndarray | list[Any]"


def is_frame(value: Any) -> bool:
    """Return whether `value` is a frame of pandas or polars, a lazy one too."""
    return any(
        base.__name__ in ("DataFrame", "LazyFrame") and base.__module__.partition(".")[0] in ("pandas", "polars")
        for base in type(value).__mro__
    )


def collected(frame: Any) -> Any:
    """Return the frame, a lazy one with its rows computed."""
    return frame.collect() if type(frame).__name__ == "LazyFrame" else frame


def parts(frame: Any, rows: int) -> Iterator[Any]:
    """Yield the frame in parts of at most `rows` rows, one part where it has none."""
    by_place = frame if _is_polars(frame) else frame.iloc  # a pandas index of floats is sliced by its labels
    for start in range(0, max(len(frame), 1), rows):
        yield by_place[start : start + rows]


def names(frame: Any) -> Sequence[str]:
    """Return the names of the columns as text: the column 3 feeds the feature "3", as in training."""
    return [str(name) for name in frame.columns]


def check_distinct(frame: Any, features: Sequence[str]) -> None:
    """Raise ValueError where the frame has more than one column for a feature."""
    columns = names(frame)
    repeated = [name for name in features if columns.count(name) > 1]
    if repeated:
        raise ValueError(f"the frame has {columns.count(repeated[0])} columns {repeated[0]!r}; keep one of them")


def column(frame: Any, name: str, kind: str) -> ColumnValues:
    """Return the column of a feature of `kind`: numeric, categorical or date."""
    place = names(frame).index(name)
    if _is_polars(frame):
        return _of_polars(frame.to_series(place), kind)
    return _of_pandas(frame.iloc[:, place], kind)


def extended(frame: Any, columns: Mapping[str, Any]) -> Any:
    """Return the frame with `columns` at its end; raises ValueError where it has such a column."""
    existing = [name for name in columns if name in frame.columns]
    if existing:
        raise ValueError(f"the frame has a column {existing[0]!r} already; drop or rename it")
    if _is_polars(frame):
        return frame.hstack(type(frame)(dict(columns)))
    return frame.assign(**columns)


def _is_polars(frame: Any) -> bool:
    return any(base.__module__.startswith("polars") for base in type(frame).__mro__)


def _of_polars(values: Any, kind: str) -> ColumnValues:
    dtype = values.dtype
    has_gaps = values.null_count() > 0
    if dtype.is_float() or (dtype.is_integer() and not has_gaps) or (str(dtype) == "Boolean" and not has_gaps):
        return values.to_numpy()  # type: ignore[no-any-return]
    if kind == "date" and dtype.is_temporal() and str(dtype).startswith("Date"):
        return values.to_numpy()  # type: ignore[no-any-return]  # instants of UTC, NaT where missing
    return json_values(values.to_list())


def _of_pandas(values: Any, kind: str) -> ColumnValues:
    dtype = values.dtype
    is_numpy = type(dtype).__module__.partition(".")[0] == "numpy"
    if is_numpy and dtype.kind in "biuf":
        return values.to_numpy()  # type: ignore[no-any-return]
    if kind == "date" and getattr(dtype, "kind", "") == "M" and (is_numpy or type(dtype).__name__ == "DatetimeTZDtype"):
        instants = values if is_numpy else values.dt.tz_convert("UTC").dt.tz_localize(None)
        return instants.to_numpy()  # type: ignore[no-any-return]
    return json_values(values.astype(object).tolist())
