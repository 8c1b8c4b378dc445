"""Settings as the settings file and the environment have them, before anything is validated."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from batchproof.service.configuration import platforms
from batchproof.service.errors import SettingError, nearest

PREFIX = "BATCHPROOF_"
CLIENT_PREFIX = "BATCHPROOF_CLIENT_"  # of what the client reads: no setting of the service
FILE_NAME = PREFIX + "SETTINGS"  # environment name of the settings file's path


def environment_name(name: str) -> str:
    """Return the setting's name in the environment."""
    return PREFIX + name.upper()


def read_file(path: Path, known: Collection[str]) -> dict[str, Any]:
    """Return the settings of a TOML file; raises SettingError where it cannot be read or has an unknown name."""
    import tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"The settings file {path} cannot be read: {error}.") from error
    for name in content:
        if name not in known:
            near = nearest(name, list(known))
            raise SettingError(f"Unknown setting {name!r} in the settings file {path}.{near}")
    return content


def read_environment(environment: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Return the settings in the environment; raises SettingError for an unknown name."""
    values = {}
    for key, value in environment.items():
        if key.startswith(PREFIX) and key != FILE_NAME and not key.startswith(CLIENT_PREFIX):
            name = key.removeprefix(PREFIX).lower()
            if platforms.is_service_link(key, value):
                continue
            if name not in known:
                near = nearest(name, list(known), environment_name)
                raise SettingError(f"Unknown setting {key!r} in the environment.{near}")
            values[name] = value
    return values


def pairs(value: Any) -> Any:
    """Return {name: value} of NAME=VALUE with commas between; in a file a table may stand in a table, and lists in it."""
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",") if part.strip()]
        value = {name.strip(): written.strip() for name, _, written in parts}
    if not isinstance(value, Mapping):
        return value
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= {f"{name}.{key}": one for key, one in inner.items()} if isinstance(inner, Mapping) else {name: inner}
    return {name: _number(_joined(one)) for name, one in flat.items()}


def _joined(value: Any) -> Any:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) and value else value


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19 else value


def texts(value: Any) -> Any:
    """Return the texts of a list that is written with commas; whatever is not a text as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def check_networks(value: tuple[str, ...]) -> None:
    """Raise ValueError for a text that is neither an address nor a network."""
    from ipaddress import ip_network  # few services stand behind a proxy that they trust

    for text in value:
        ip_network(text, strict=False)
