"""JSON values to the cells of a text table, and to typed columns of an Arrow table."""

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from batchproof.service.bundle.signature import Feature
from batchproof.service.errors import FeatureError
from batchproof.service.features.row_encoder import value_of
from batchproof.service.features.texts.text_cells import WHOLE
from batchproof.service.features.value_encoder import InvalidValueError

MAX_EXACT = 1 << 53  # every integer up to here is a float64


def cell_of(value: Any) -> str:
    """Return the cell that reads back as `value`; a missing one is empty."""
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value, default=written).decode().strip('"')


def written(value: Any) -> str:
    """Return what JSON has no form for as text: bytes in base64 (RFC 4648), as protobuf's JSON has them, decimals as digits."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def json_of(take: Callable[[str], Any], cell: str) -> Any:
    """Return the JSON value of a text table's cell, a whole number as it is written; other cells stay text."""
    value = take(cell)
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return cell
    return int(cell.strip()) if WHOLE.fullmatch(cell.strip()) and isinstance(whole(value), int) else value


def whole(value: Any) -> Any:
    """Return a float that is a whole number as an integer, so that it is written as 181: pandas knows no missing integer.

    Whatever else it is stays: -0.0 too, which no integer is.
    """
    if not isinstance(value, float) or not value.is_integer() or abs(value) > MAX_EXACT:
        return value
    return value if value == 0 and math.copysign(1, value) < 0 else int(value)


def arrow_type(feature: Feature) -> Any:
    """Return the Arrow type of a feature's column where the table itself has no types."""
    import pyarrow as pa

    if feature.value_type == "boolean":
        return pa.bool_()
    if feature.kind == "numeric":  # the next block may hold a fraction, also where all training values were whole
        return pa.float64()
    return pa.int64() if feature.value_type == "integer" else pa.string()


def arrow_column(feature: Feature, values: Sequence[Any]) -> Any:
    """Return a feature's JSON values as an Arrow array; a value that the feature does not accept becomes null."""
    import pyarrow as pa

    wanted, codes = arrow_type(feature), feature.codes
    return pa.array([_fitting(feature, codes, value, wanted) for value in values], wanted)


def _fitting(feature: Feature, codes: dict[str, int], value: Any, wanted: Any) -> Any:
    import pyarrow as pa

    try:
        number = value_of(feature, codes, value)
    except (InvalidValueError, FeatureError):
        return None
    if value is None or feature.kind == "date":
        return value
    if wanted == pa.bool_():  # the encoder has seen that a number is 1 or 0
        return bool(value)
    return number if wanted == pa.float64() else int(value) if wanted == pa.int64() else value
