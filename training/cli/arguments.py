"""What the commands share of argparse: a fault is one sentence, with the nearest option where one is unknown."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

USAGE = 2  # exit code: what was asked for cannot be done


class Arguments(argparse.ArgumentParser):
    """A parser that refuses in one sentence instead of the whole usage."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Take what argparse takes; a shortened option is unknown, so that no later option changes its meaning."""
        super().__init__(*given, **{"allow_abbrev": False, **named})

    def parse_args(  # type: ignore[override]  # its stub is overloaded by the namespace, which nobody here gives
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Return the parsed arguments; an unknown option is refused before a missing one is."""
        given = list(sys.argv[1:] if args is None else args)
        known = [option for option in self._option_string_actions if option.startswith("--")]
        for word in given[: given.index("--")] if "--" in given else given:
            option = word.split("=")[0]
            if word.startswith("--") and option not in known:
                nearest = difflib.get_close_matches(option, known, 1)
                self.error(f"there is no option {option}" + (f": did you mean {nearest[0]}?" if nearest else ""))
        return super().parse_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Say what was wrong, and where to read on."""
        end = "" if message.endswith(("?", ".")) else "."
        self.exit(USAGE, f"{self.prog}: error: {message}{end} See {self.prog} --help\n")


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
    """Read whole numbers with commas between them."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not whole numbers with commas between, such as 256,256"
        ) from error
