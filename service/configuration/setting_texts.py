"""Settings in words: the values that one takes, its flag, and what is wrong with one."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from batchproof.service.configuration.setting_sources import environment_name

USER = re.compile(r"//[^/@'\"]*@")  # in an address: a password may follow


def flag_name(name: str) -> str:
    """Return the setting's flag."""
    return "--" + name.replace("_", "-")


def bounds_of(field: FieldInfo) -> str:
    """Return the values that the setting takes, in words."""
    if get_origin(field.annotation) is Literal:
        return " | ".join(get_args(field.annotation))
    least, above, most = (_limit(field, kind) for kind in ("ge", "gt", "le"))
    if most is not None:
        return f"above {above} to {most}" if least is None else f"{least} to {most}"
    words: dict[Any, str] = {bool: "true | false", tuple: "list", dict: "NAME=VERSION,…"}
    return words.get(get_origin(field.annotation) or field.annotation, "text")


def _limit(field: FieldInfo, kind: str) -> float | None:
    """Return the field's bound `ge`, `gt` or `le`. Its JSON schema has them too, but takes 5 ms of each start."""
    return next((getattr(limit, kind) for limit in field.metadata if hasattr(limit, kind)), None)


def unit_of(field: FieldInfo) -> str:
    """Return the setting's unit, or nothing."""
    extra = field.json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else ""


def text(value: Any) -> str:
    """Return a setting's value as it would be written; "none" stands for an empty one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        value = [f"{key}={one}" for key, one in value.items()]
    return (",".join(value) if isinstance(value, list | tuple) else str(value)) or "none"


def sentence(
    error: ValidationError,
    values: Mapping[str, Any],
    sources: Mapping[str, str],
    path: Path | None,
    bounds: Callable[[str], str],
) -> str:
    """Return what is wrong with the first setting that is, where it came from and what it takes."""
    fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0])
    source = {
        "file": f"{name} in the settings file {path}",
        "environment": environment_name(name),
        "flag": flag_name(name),
    }.get(sources.get(name, ""), name)
    taken = bounds(name)
    if fault["type"] == "value_error":
        why = f": {fault['ctx']['error']}"
    else:
        why = f": {str(fault['msg']).lower()}" if taken in ("text", "list") else ""  # elsewhere the bounds say it all
    return f"{source} is {USER.sub('//', repr(values[name]))}, but {name} takes {taken}{why}."
