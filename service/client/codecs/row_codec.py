"""Rows as the body of a native request, and its answer as predictions.

A value that JSON has no form for is refused here in the service's own words and shape, so that with on_error "row" its
row gets an error like any other bad row.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from batchproof.service.client.codecs.values import InfiniteValueError, UnreadableValueError, json_row, json_value
from batchproof.service.client.messages import RefusedError, Response, renumbered
from batchproof.service.client.model import Feature
from batchproof.service.client.options import Options

Prediction = dict[str, Any]
PLAIN_ROWS = {dict, list, tuple}


class EncodedRows(NamedTuple):
    """A request's body, and the rows that are not in it, because a value of theirs has no form in JSON."""

    body: bytes
    rows: int  # that were given
    errors: dict[int, dict[str, Any]]  # row of those given -> the service's object of one row's error
    first_row: int


def encoded(
    rows: Sequence[Any], options: Options, first_row: int = 0, features: Sequence[Feature] | None = None
) -> EncodedRows:
    """Return the body for `rows`, which are the caller's from `first_row` on; raises RefusedError.

    An infinite number goes as the text that the numeric feature reads it from; without `features` InfiniteValueError is
    raised, for the caller to find them out.
    """
    fields = options.fields()
    if set(map(type, rows)) <= PLAIN_ROWS:
        try:
            body = json.dumps({"rows": list(rows), **fields}, allow_nan=False)
            return EncodedRows(body.encode(), len(rows), {}, first_row)
        except (TypeError, ValueError):  # NaN, a date, a Decimal: value by value
            pass
    readable, errors = [], {}
    for number, row in enumerate(rows):
        values, details = _readable(json_row(row), first_row + number, features)
        if details:
            errors[number] = _error("invalid_row", details)
        else:
            readable.append(values)
    if errors and not options.keeps_bad_rows:
        details = [detail for error in errors.values() for detail in error["details"]]
        error = _error("invalid_rows", details)
        raise RefusedError(422, error["code"], error["message"], details)
    return EncodedRows(json.dumps({"rows": readable, **fields}).encode(), len(rows), errors, first_row)


def predictions(response: Response, request: EncodedRows) -> list[Prediction]:
    """Return the prediction of each row that was given, or {"error": ...} for a bad one."""
    answered = iter(json.loads(response.body)["predictions"])
    merged = []
    for number in range(request.rows):
        prediction = {"error": request.errors[number]} if number in request.errors else next(answered)
        merged.append(prediction)
    if not request.errors and not request.first_row:
        return merged
    return _renumbered(merged, request)


def _renumbered(merged: list[Prediction], request: EncodedRows) -> list[Prediction]:
    """Return predictions whose errors name the caller's row: the service counts those of its request."""
    return [
        {"error": renumbered(prediction["error"], request.first_row + number - _row(prediction["error"]))}
        if "error" in prediction and number not in request.errors
        else prediction
        for number, prediction in enumerate(merged)
    ]


def _row(error: dict[str, Any]) -> int:
    return next((detail["row"] for detail in error["details"] if detail["row"] is not None), 0)


def _readable(row: Any, number: int, features: Sequence[Feature] | None) -> tuple[Any, list[dict[str, Any]]]:
    """Return a row with JSON values, and a detail for each value that has no such form."""
    if not isinstance(row, dict | list):
        return row, []  # the service says what a row is
    details = []
    items = list(row.items()) if isinstance(row, dict) else list(enumerate(row))
    values = []
    for name, value in items:
        try:
            values.append(_readable_value(name, value, features))
        except UnreadableValueError as error:
            if features is None and isinstance(error, InfiniteValueError):
                raise
            feature = str(name) if isinstance(row, dict) else None
            where = "" if isinstance(row, dict) else f"value {name}: "
            details.append({"row": number, "feature": feature, "message": f"{where}{error}"})
    if details:
        return row, details
    return (dict(zip((str(name) for name in row), values, strict=True)) if isinstance(row, dict) else values), []


def _readable_value(name: Any, value: Any, features: Sequence[Feature] | None) -> Any:
    """Return the JSON value of a feature by name, or by place in a list; raises UnreadableValueError."""
    try:
        return json_value(value)
    except InfiniteValueError as error:
        by_place = isinstance(name, int)
        numeric = {
            place if by_place else feature.name
            for place, feature in enumerate(features or ())
            if feature.kind == "numeric"
        }
        if name in numeric:
            return error.text
        raise


def _error(code: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an error as the service writes it."""
    first = details[0]
    feature = "" if first["feature"] is None else f", feature {first['feature']!r}"
    more = f" ({len(details) - 1} more in details.)" if len(details) > 1 else ""
    return {"code": code, "message": f"row {first['row']}{feature}: {first['message']}.{more}", "details": details}
