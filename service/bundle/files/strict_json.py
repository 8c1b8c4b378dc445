"""JSON read the strict way: no duplicate keys, no NaN or infinity, no deep nesting. For files, not for requests."""

import json
import math
from typing import Any

MAX_DEPTH = 32
MAX_DIGITS = 40  # reading a number takes time with the square of them
MAX_VALUES = 2_000_000  # each takes up to 64 bytes, where the file may spend two on it


def loads(raw: bytes) -> Any:
    """Parse UTF-8 `raw`; raises ValueError with a clause that says what is wrong with it."""
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"holds more than {MAX_VALUES} values")
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_distinct, parse_constant=_no_constant, parse_float=_finite, parse_int=_short
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels") from error
    _bound_depth(value)
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, child in pairs:
        if key in value:
            raise ValueError(f"repeats the key {key!r:.80}")
        value[key] = child
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"holds {name}, which is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"holds {digits[:40]}, which is beyond float64")
    return value


def _short(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"holds a whole number of {len(digits)} digits")
    return int(digits)


def _bound_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")


def _children(value: Any) -> list[Any]:
    children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [child for child in children if isinstance(child, dict | list)]
