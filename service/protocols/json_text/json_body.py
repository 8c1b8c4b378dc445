"""JSON bodies: parsing, and keys that an object has twice, of which parsers keep the last without a warning.

A body with n keys has at least n colons, so where it has exactly n no key is hidden. Further colons stand in strings or
after repeated keys: then the body is read again, pair by pair.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
import simdjson

from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoded, Problem

LONG_BODY_BYTES = 16384
BRACKETS = 4  # in texts, for each row
BRACKETS_BESIDE = 1000
LEAST_TEXT = 16  # characters for each comma of a text


class _RepeatedError(Exception):
    """A key that came twice, on its way out of the parser."""


def check_keys(body: bytes, keys: int, start: str = "The") -> None:
    """Raise 422 where one object of `body`, JSON whose parsed objects have so many keys in all, has a key twice.

    Which of the two values is meant is unknown. `keys` may leave out objects that should not be there: that costs a
    second reading and hides nothing. `start` opens the sentence.
    """
    try:
        key = _found(body, keys)
    except RecursionError as error:
        raise ServiceError(422, "invalid_request", f"{start} JSON is nested too deeply.") from error
    if key is not None:
        raise ServiceError(422, "invalid_request", f"{start} key {key!r:.200} is given twice in one object.")


def repeated_key(body: bytes, keys: int) -> str | None:
    """Return a key that is repeated in one object of `body`, JSON whose parsed objects have so many keys in all."""
    try:
        return _found(body, keys)
    except RecursionError:
        return None  # no row is nested: this one is refused for what it is


def count(body: bytes, byte: bytes) -> int:
    """Return how often `byte` occurs; numpy has a fifth of the time of bytes.count for long bodies."""
    if len(body) < LONG_BODY_BYTES:
        return body.count(byte)
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord(byte)))


def _found(body: bytes, keys: int) -> str | None:
    """Do as `repeated_key`; raises RecursionError for a body that is nested too deep."""
    if count(body, b":") == keys:
        return None
    try:
        json.loads(body, object_pairs_hook=_check, parse_int=str, parse_float=str)
    except _RepeatedError as error:
        return str(error)
    return None


def _check(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise _RepeatedError(key)
        seen.add(key)


BOM = b"\xef\xbb\xbf"  # which some libraries write before UTF-8
NO_CSV = (b"", b"{", b"[", b"\x1f", b"\xef")  # how JSON begins, and gzip, and a byte order mark


def without_bom(body: bytes) -> bytes:
    """Return the body without a byte order mark before it (RFC 8259, 8.1)."""
    return body.removeprefix(BOM)


def parse(body: bytes) -> Any:
    """Return the parsed body; raises 400 with the position of the fault."""
    return _parsed(orjson.loads, body)


def parse_with_nan(body: bytes) -> Any:
    """Return the parsed body, a bare NaN as null; raises 400 with the position of the fault."""
    return _parsed(loads_with_nan, body)


def loads_with_nan(raw: bytes, nan: float | None = None) -> Any:
    """Return parsed JSON in which NaN, as Python's and other libraries write it, is `nan`, and Infinity infinite.

    Raises JSONDecodeError.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise
        return _with_tokens(raw, error, nan)


def _with_tokens(raw: bytes, error: orjson.JSONDecodeError, nan: float | None) -> Any:
    constants = {"NaN": nan, "Infinity": math.inf, "-Infinity": -math.inf}
    try:
        content = json.loads(raw.decode(), parse_constant=constants.__getitem__)
        if b"\\u" in raw:  # half of a surrogate pair cannot be written in an answer
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError:  # the fault is not one of the tokens
        raise
    except (ValueError, RecursionError) as found:
        raise error from found
    return content


def _parsed(loads: Callable[[bytes], Any], body: bytes) -> Any:
    plain = without_bom(body)
    try:
        return loads(plain)
    except json.JSONDecodeError as error:
        hint = "" if body.lstrip()[:1] in NO_CSV else "; for a table send Content-Type: text/csv"
        raise errors.broken_json(plain, error, hint) from error


def check_distinct(body: bytes, content: dict[str, Any]) -> None:
    """Raise 422 where a key is given twice in one object."""
    check_keys(body, len(content) + sum(len(row) for row in content["rows"] if isinstance(row, dict)))


def too_many_rows(rows: int, limit: int) -> ServiceError:
    """Return 422: more rows than one request may hold."""
    return ServiceError(422, "too_many_rows", f"The request has {rows} rows; at most {limit} are accepted.")


def more_rows(limit: int) -> ServiceError:
    """Return 422: more rows than one request may hold, seen before all of them were read."""
    return ServiceError(422, "too_many_rows", f"The request has more than {limit} rows; at most {limit} are accepted.")


def check_size(body: bytes, max_rows: int, features: int) -> None:
    """Raise 422 for JSON of so many parts that it must be refused, before time and memory are taken for each of them.

    Rows hold no objects and no lists, and one value for each feature. Brackets and commas in texts count too: so a few are
    allowed for each row; beyond that the number of rows itself is looked up, by a parser that makes no objects, and
    values are too many where no text has so many commas.
    """
    if len(body) < LONG_BODY_BYTES:
        return
    commas = count(body, b",")
    if commas > BRACKETS * max_rows * (features + 1) + BRACKETS_BESIDE and commas * LEAST_TEXT > len(body):
        raise ServiceError(
            422,
            "too_many_rows",
            f"The request has more values than {max_rows} rows of {features} features; at most that many are accepted.",
        )
    brackets = count(body, b"{") + count(body, b"[")
    if brackets > BRACKETS * max_rows + BRACKETS_BESIDE and _most_elements(body) > max_rows:
        raise more_rows(max_rows)


def _most_elements(body: bytes) -> int:
    """Return how many elements the longest list has, of those in an object that is the whole body or one level below.

    Raises 400 where the body is not JSON.
    """
    try:
        document: Any = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError) as error:  # where it is not JSON, is not looked for: that would take the memory
        raise ServiceError(400, "broken_json", f"The body is not JSON: {errors.first_line(error)}.") from error
    pending, most = [document], 0
    for _ in range(2):
        values = [value for one in pending for value in (one.values() if isinstance(one, simdjson.Object) else [])]
        most = max([most, *(len(value) for value in [*pending, *values] if isinstance(value, simdjson.Array))])
        pending = [value for value in values if isinstance(value, simdjson.Object)]
    return most


def invalid_rows(encoded: Encoded) -> ServiceError:
    """Return 422 with every fault that was found."""
    return ServiceError(
        422,
        "invalid_rows",
        _sentence(encoded.errors),
        details=_details(encoded.errors),
        truncated=encoded.truncated,
    )


def _sentence(problems: Sequence[Problem]) -> str:
    row, feature, message = problems[0]
    where = ", ".join([f"row {row}"] * (row is not None) + [f"feature {feature!r}"] * (feature is not None))
    more = f" ({len(problems) - 1} more in details.)" if len(problems) > 1 else ""
    return f"{where or 'The request'}: {message}.".replace("..", ".").replace("?.", "?") + more


def _details(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    return [problem._asdict() for problem in problems]
