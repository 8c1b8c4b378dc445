"""What the commands share: numbers as values of options, settings files, and the lines that end a run."""

import argparse
import shlex
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from batchproof.service.errors import ended, nearest, reason
from batchproof.training.settings import SettingError, Settings

# docs/accuracy.md has the figures
QUICK_COST = "the default one takes up to five times as long, and its loss is typically up to 4 % lower"


def whole_number(text: str) -> int:
    """Read one whole number."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number such as 10") from error


def number(text: str) -> float:
    """Read one number."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 0.1") from error


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers separated by commas."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of whole numbers separated by commas, such as 256,256"
        ) from error


def after_quick(command: str, words: Sequence[str], file: Path | None) -> str:
    """Return the line that follows a quick fit: what the default one is like, and its command.

    `words` are the arguments of this run; without --quick among them, the settings `file` asked for it.
    """
    whole = [word for word in words if word != "--quick"]
    run = shlex.join([command, *whole]) if len(whole) < len(words) else f"set quick = false in {file}"
    return f"this was a quick fit: {QUICK_COST}. The default fit: {run}"


def refuse(command: str, sentence: object, status: int) -> int:
    """Print why the command failed, and return its exit status."""
    print(f"{command}: {sentence}", file=sys.stderr)
    return status


def check_page(file: str | None) -> None:
    """Raise SettingError where the page of --live could not be written: before hours of a run, not after its first epoch."""
    if file is None:
        return
    path = Path(file)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise SettingError(f"--live is {file!r}; it is the name of an HTML file, such as run.html.")
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(b"")
        part.unlink(missing_ok=True)  # another process of the run may look at the same time
    except OSError as error:
        raise SettingError(f"--live: {file} cannot be written: {ended(reason(error))}") from error


def read_file(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file. Raises SettingError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"the settings file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"the settings file {path} is not TOML: {error}.") from error
    return {_known(name.replace("-", "_"), path): value for name, value in values.items()}


def _known(name: str, path: Path) -> str:
    names = [entry.name for entry in fields(Settings)]
    if name in names:
        return name
    raise SettingError(f"the settings file {path} has an unknown setting {name!r}.{nearest(name, names)}")
