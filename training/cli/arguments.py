"""What the commands share: numbers as values of options, and the line that says why a command failed."""

import argparse
import sys
from pathlib import Path

from batchproof.service.errors import ended, reason
from batchproof.training.settings import SettingError


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
