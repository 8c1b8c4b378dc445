"""What the caller wants of a table: extra columns, what the answer holds, what a bad row does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

from batchproof.service.errors import ServiceError, nearest

CHOICES: Mapping[str, tuple[str, ...]] = {
    "extra": ("refuse", "ignore"),
    "answer": ("append", "alone"),
    "on_error": ("stop", "row"),
}
ALIASES = {("on_error", "request"): "stop"}  # as the field of a JSON body may be called too


@dataclass(frozen=True)
class Parameters:
    """The choices, each with its default."""

    extra: str = "refuse"  # or "ignore": columns that are not features stay in the answer and are not read
    answer: str = "append"  # or "alone": without the columns of the table
    on_error: str = "stop"  # or "row": a bad row gets its error in the answer
    prefix: str = ""  # before the names of added columns
    asked_in: Literal["query", "flags", "python"] = "query"  # whose spelling messages have

    def spelled(self, name: str, value: str) -> str:
        """Return how the caller would ask for `value`."""
        if self.asked_in == "flags":
            return f"--{name.replace('_', '-')} {value}"
        return f'{name}="{value}"' if self.asked_in == "python" else f"{name}={value}"


def parse(query: bytes) -> Parameters:
    """Return the parameters of a query string; raises 400 for an unknown name or value."""
    values: dict[str, Any] = {}
    for name, given in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        value = ALIASES.get((name, given), given)
        if name != "prefix" and value not in CHOICES.get(name, (value,)):
            options = " or ".join(CHOICES[name])
            raise ServiceError(
                400, "invalid_parameter", f"The parameter {name} is {value!r:.40}; it must be {options}."
            )
        if name not in (*CHOICES, "prefix"):
            known = (*CHOICES, "prefix")
            near = nearest(name, known)
            raise ServiceError(
                400, "invalid_parameter", f"Unknown parameter {name!r:.40}; known are {', '.join(known)}.{near}"
            )
        values[name] = value
    return Parameters(**values)
