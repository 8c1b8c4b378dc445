"""Settings in words: the values that one takes, its flag, and what is wrong with one."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from batchproof.service.configuration.setting_fields import Setting, UnfitError, WrongSettingError
from batchproof.service.configuration.setting_sources import environment_name

USER = re.compile(r"//[^/@'\"]*@")  # in an address: a password may follow


def flag_name(name: str) -> str:
    """Return the setting's flag."""
    return "--" + name.replace("_", "-")


def bounds_of(field: Setting) -> str:
    """Return the values that the setting takes, in words."""
    if get_origin(field.annotation) is Literal:
        return " | ".join(get_args(field.annotation))
    if field.le is not None:
        return f"above {field.gt} to {field.le}" if field.ge is None else f"{field.ge} to {field.le}"
    words: dict[Any, str] = {bool: "true | false", tuple: "list", dict: "NAME=VERSION,…"}
    return words.get(get_origin(field.annotation) or field.annotation, "text")


def text(value: Any) -> str:
    """Return a setting's value as it would be written; "none" stands for an empty one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        value = [f"{key}={one}" for key, one in value.items()]
    return (",".join(value) if isinstance(value, list | tuple) else str(value)) or "none"


def sentence(
    error: WrongSettingError,
    values: Mapping[str, Any],
    sources: Mapping[str, str],
    path: Path | None,
    bounds: Callable[[str], str],
) -> str:
    """Return what is wrong with the first setting that is, where it came from and what it takes."""
    name = error.name
    source = {
        "file": f"{name} in the settings file {path}",
        "environment": environment_name(name),
        "flag": flag_name(name),
    }.get(sources.get(name, ""), name)
    taken = bounds(name)
    says_more = taken in ("text", "list") or not isinstance(error.why, UnfitError)  # elsewhere the bounds say it all
    why = f": {error.why}" if says_more else ""
    return f"{source} is {USER.sub('//', repr(values[name]))}, but {name} takes {taken}{why}."
