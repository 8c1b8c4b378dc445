"""A command line that refuses in one sentence, with the nearest option where one is unknown."""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from batchproof.service.errors import USAGE


class Arguments(argparse.ArgumentParser):
    """A parser whose commands have options of their own, and say so themselves where one is unknown."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Take what argparse takes; a shortened option is unknown, so that no later option changes its meaning."""
        super().__init__(*given, **{"allow_abbrev": False, **named})

    def parse_known_args(  # type: ignore[override]  # its stub is overloaded by the namespace, which nobody here gives
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, and refuse here what this command does not know: argparse would leave it to the whole program."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [option[2:] for option in self._option_string_actions if option.startswith("--")]
            name = unknown[0].partition("=")[0]
            near = get_close_matches(name[2:], names, n=1) if name.startswith("--") else []
            self.error(f"{unknown[0]!r} is not taken." + (f" Did you mean '--{near[0]}'?" if near else ""))
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Say what was wrong, and where to read on."""
        end = "" if message.endswith(("?", ".")) else "."
        self.exit(USAGE, f"{self.prog}: {message}{end} See {self.prog} --help\n")
