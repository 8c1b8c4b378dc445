"""A command line that refuses in one sentence, with the nearest option where one is unknown."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from batchproof.service.configuration.address import AddressError, Root, root_of
from batchproof.service.errors import USAGE, nearest


def root(text: str) -> Root:
    """Return the folder or the address of bundles that an argument names."""
    try:
        return root_of(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Arguments(argparse.ArgumentParser):
    """A parser of one command, or of a program whose commands have their own options."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Accept what argparse accepts; descriptions keep their lines.

        Options cannot be shortened, so that no later option changes their meaning.
        """
        own = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*arguments, **{**own, **options})

    def parse_known_args(  # type: ignore[override]  # its stub is overloaded by the namespace, which nobody here gives
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, and refuse every argument that this command does not know.

        An unknown option is refused before a missing argument: it is often the misspelt one. A program with commands
        cannot look for options, since those of its commands are not its own.
        """
        words = self._with_values(list(sys.argv[1:] if args is None else args))
        if self._subparsers is None:
            options = words[: words.index("--")] if "--" in words else words
            self._refuse([word for word in options if word.startswith("--") and not self._knows(word)])
        parsed, unknown = super().parse_known_args(words, namespace)
        self._refuse(unknown)
        return parsed, unknown

    def _with_values(self, words: Sequence[str]) -> list[str]:
        """Join an option and a value that begins with one dash, such as `--memory -1GB`.

        argparse would take the value for an option, and say that the value is missing.
        """
        joined: list[str] = []
        for place, word in enumerate(words):
            if word == "--":
                return [*joined, *words[place:]]
            action = self._option_string_actions.get(joined[-1]) if joined else None
            is_value = word[:1] == "-" and word[1:2] not in ("", "-") and word not in self._option_string_actions
            if is_value and action is not None and action.nargs is None:
                joined[-1] = f"{joined[-1]}={word}"
            else:
                joined.append(word)
        return joined

    def _knows(self, word: str) -> bool:
        return word.partition("=")[0] in self._option_string_actions

    def _refuse(self, unknown: Sequence[str]) -> None:
        """Refuse the first of the arguments `unknown`, if there is one."""
        if not unknown:
            return
        name = unknown[0].partition("=")[0]
        if not name.startswith("-"):
            self.error(f"unexpected argument {unknown[0]!r}.")
        options = [option[2:] for option in self._option_string_actions if option.startswith("--")]
        self.error(f"unknown option {name!r}.{nearest(name[2:], options, '--{}'.format)}")

    def error(self, message: str) -> NoReturn:
        """Say what was wrong, and where to read on."""
        end = "" if message.endswith(("?", ".")) else "."
        self.exit(USAGE, f"{self.prog}: {message}{end} See {self.prog} --help\n")
