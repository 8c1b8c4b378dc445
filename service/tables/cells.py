"""JSON values to the cells of a text table, and to typed columns of an Arrow table."""

from collections.abc import Sequence
from typing import Any

import orjson

from service.errors import FeatureError
from service.features import codes_of, value_of
from service.manifest import Feature
from service.values import InvalidValueError


def cell_of(value: Any) -> str:
    """Return the cell that reads back as `value`; a missing one is empty."""
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value, default=str).decode().strip('"')


def arrow_type(feature: Feature) -> Any:
    """Return the Arrow type of a feature's column where the table itself has no types."""
    import pyarrow as pa

    if feature.kind == "numeric":
        return pa.float64()
    return {"integer": pa.int64(), "boolean": pa.bool_()}.get(feature.value_type, pa.string())


def arrow_column(feature: Feature, values: Sequence[Any]) -> Any:
    """Return a feature's JSON values as an Arrow array; a value that the feature does not take becomes null."""
    import pyarrow as pa

    wanted, codes = arrow_type(feature), codes_of(feature)
    return pa.array([_fitting(feature, codes, value, wanted) for value in values], wanted)


def _fitting(feature: Feature, codes: dict[str, int], value: Any, wanted: Any) -> Any:
    import pyarrow as pa

    try:
        number = value_of(feature, codes, value)
    except (InvalidValueError, FeatureError):
        return None
    if value is None or feature.kind == "date":
        return value
    return number if wanted == pa.float64() else int(value) if wanted == pa.int64() else value
