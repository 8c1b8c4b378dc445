"""`batchproof key`: make, list and remove the keys of callers.

  batchproof key new reporting --scope predict --scope read --file keys.toml
  batchproof key list --file keys.toml
  batchproof key remove reporting --file keys.toml
  batchproof serve --keys-file keys.toml

`new` prints the key once; the file holds only its SHA-256. To change a key without a pause, make a second one for the
same name, hand it out, then remove the old one by the first digits of its SHA-256. A running service reads the file
again when it changes.

Exit status: 0 done; 2 a sentence says what is wrong, and nothing was written.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from pydantic import ValidationError

from batchproof.service.access import keys_file
from batchproof.service.access.grant import SCOPES
from batchproof.service.errors import USAGE, SettingError, nearest

DEFAULT_FILE = Path("keys.toml")


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("key", help="make, list and remove the keys of callers", description=__doc__)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_new(actions)
    lister = actions.add_parser("list", help="show the keys of the file, without secrets")
    lister.set_defaults(run=_run(show))
    remover = actions.add_parser("remove", help="remove a key from the file")
    remover.add_argument("name", metavar="NAME", help="whose key")
    remover.add_argument("--sha256", metavar="DIGITS", default="", help="which one, by the first digits of its SHA-256")
    remover.set_defaults(run=_run(remove))
    for action in (lister, remover):
        action.add_argument("--file", type=Path, default=DEFAULT_FILE, help="the file of keys (default %(default)s)")


def _add_new(actions: Any) -> None:
    parser = actions.add_parser("new", help="make a key and print it once")
    parser.add_argument("name", metavar="NAME", help="who will use it, as logs and counters show it")
    parser.add_argument(
        "--scope",
        action="append",
        required=True,
        metavar="SCOPE",
        help=f"what it allows: {', '.join(SCOPES)}; may be repeated",
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="PATTERN",
        help="a model it may use, * for any text (default: every model); may be repeated",
    )
    parser.add_argument(
        "--not-after", type=_day, metavar="DATE", help="last day, or moment in UTC, on which it is valid"
    )
    parser.add_argument("--requests-per-s", type=float, metavar="N", help="most requests a second of all keys of NAME")
    parser.add_argument("--rows-per-s", type=float, metavar="N", help="most rows a second of all keys of NAME")
    parser.add_argument("--file", type=Path, default=DEFAULT_FILE, help="the file of keys (default %(default)s)")
    parser.set_defaults(run=_run(new))


def new(arguments: argparse.Namespace) -> None:
    """Make a key, append its entry to the file, print the key."""
    secret = keys_file.new_key()
    values = {
        "name": arguments.name,
        "sha256": keys_file.digest_of(secret),
        "scopes": tuple(dict.fromkeys(arguments.scope)),
        "models": tuple(arguments.model or ("*",)),
        "not_after": arguments.not_after,
        "requests_per_s": arguments.requests_per_s,
        "rows_per_s": arguments.rows_per_s,
    }
    for scope in values["scopes"]:
        if scope not in SCOPES:
            raise SettingError(f"Unknown scope {scope!r}; scopes are {', '.join(SCOPES)}.{nearest(scope, SCOPES)}")
    try:
        key = keys_file.Key.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise SettingError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}") from error
    before = arguments.file.read_text(encoding="utf-8") if arguments.file.exists() else ""
    _check_limits(arguments.file, key)
    text = (before.rstrip("\n") + "\n\n" if before.strip() else before) + keys_file.entry_text(key)
    _write(arguments.file, text)
    print(secret)
    print(f"Stored its SHA-256 in {arguments.file}. Keep the key: it is not shown again.", file=sys.stderr)


def _check_limits(file: Path, key: keys_file.Key) -> None:
    """Raise SettingError where the file is broken, or another key of the same owner has other limits."""
    for other in keys_file.read_keys(file) if file.exists() else []:
        if other.name == key.name and other.limits != key.limits:
            raise SettingError(
                f"{key.name!r} has a key already whose requests_per_s or rows_per_s differ; all keys of a name share them"
            )


def show(arguments: argparse.Namespace) -> None:
    """Print one line for each key."""
    for key in keys_file.read_keys(arguments.file):
        limits = [f"{getattr(key, name):g} {what}/s" for name, what in (("requests_per_s", "requests"), ("rows_per_s", "rows"))
                  if getattr(key, name) is not None]  # fmt: skip
        parts = [key.name, key.credential[:12], ",".join(key.scopes), ",".join(key.models), *limits]
        print("  ".join([*parts, *([f"until {key.not_after}"] if key.not_after else [])]))


def remove(arguments: argparse.Namespace) -> None:
    """Take one key out of the file; everything else stays as it is written."""
    keys = keys_file.read_keys(arguments.file)
    matching = [
        key for key in keys if key.name == arguments.name and key.credential.startswith(arguments.sha256.lower())
    ]
    if not matching:
        near = nearest(arguments.name, [key.name for key in keys])
        raise SettingError(f"{arguments.file} has no such key of {arguments.name!r}.{near}")
    if len(matching) > 1:
        digests = ", ".join(key.credential[:12] for key in matching)
        raise SettingError(f"{arguments.name!r} has {len(matching)} keys ({digests}); say which one with --sha256")
    text = keys_file.without(arguments.file.read_text(encoding="utf-8"), matching[0].credential)
    if text is None:
        raise SettingError(f"{arguments.file} is not written as this command writes it; take the entry out by hand")
    _write(arguments.file, text)
    print(f"Removed the key {matching[0].credential[:12]} of {arguments.name} from {arguments.file}.")


def _run(action: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], int]:
    """Return the action as a command: its exit status, and one sentence where it cannot be done."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            with _locked(arguments.file):
                action(arguments)
        except SettingError as error:
            print(f"batchproof key: {error}", file=sys.stderr)
            return USAGE
        except OSError as error:
            print(f"batchproof key: {arguments.file} cannot be written: {error.strerror}", file=sys.stderr)
            return USAGE
        return 0

    return run


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one command at a time change files of this folder: two that read the same file would lose an entry."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, text: str) -> None:
    """Replace the file as a whole, readable by its owner only."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o600)
    Path(file.name).replace(path)


def _day(text: str) -> date | datetime:
    try:
        return date.fromisoformat(text) if len(text) <= 10 else datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date such as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from error
