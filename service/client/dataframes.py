"""pandas and polars frames: a feature's column as numpy, and a frame of the same kind with columns more.

Neither library is imported: whoever sends a frame has its library.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def is_frame(value: Any) -> bool:
    """Return whether `value` is a frame of pandas or polars."""
    kind = type(value)
    return kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] in ("pandas", "polars")


def parts(frame: Any, rows: int) -> Iterator[Any]:
    """Yield the frame in parts of at most `rows` rows, one part where it has none."""
    for start in range(0, max(len(frame), 1), rows):
        yield frame[start : start + rows]


def column(frame: Any, name: str) -> "np.ndarray":
    """Return a column [rows] as numpy: numbers with NaN, texts with None, where values are missing."""
    values = frame[name]
    if type(frame).__module__.startswith("polars"):
        return values.to_numpy()  # type: ignore[no-any-return]
    if values.dtype.kind in "biuf" and not hasattr(values.dtype, "numpy_dtype"):
        return values.to_numpy()  # type: ignore[no-any-return]
    if getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    if values.dtype.kind == "M":
        return values.to_numpy()  # type: ignore[no-any-return]
    return values.astype(object).where(values.notna(), None).to_numpy()  # type: ignore[no-any-return]


def extended(frame: Any, columns: Mapping[str, Any]) -> Any:
    """Return the frame with `columns` at its end; raises ValueError where it has such a column."""
    taken = [name for name in columns if name in frame.columns]
    if taken:
        raise ValueError(f"the frame has a column {taken[0]!r} already; drop or rename it")
    if type(frame).__module__.startswith("polars"):
        return frame.hstack(type(frame)(dict(columns)))
    return frame.assign(**columns)


def names(frame: Any) -> Sequence[str]:
    """Return the names of the columns."""
    return list(frame.columns)
