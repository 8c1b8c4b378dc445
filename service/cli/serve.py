"""`batchproof serve`: answer requests with the models of a folder."""

import argparse
from pathlib import Path
from typing import Any

from batchproof.service.configuration import settings
from batchproof.service.configuration.setting_texts import flag_name, text
from batchproof.service.configuration.settings import Settings
from batchproof.service.server.start.gc_policy import paused


def add(commands: Any) -> None:
    """Add the command and a flag for each setting."""
    parser = commands.add_parser("serve", help="answer predictions over HTTP", description=__doc__)
    add_flags(parser)
    parser.set_defaults(run=run)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add --settings and a flag for each setting; a flag that is not given leaves no trace."""
    parser.add_argument("--settings", type=Path, metavar="FILE", help="TOML file of settings", default=None)
    for name, field in Settings.model_fields.items():
        unit = field.unit
        is_switch = field.annotation is bool
        bounds = settings.bounds(name) + (f" {unit}" if unit else "")
        help_text = f"{field.description} [{bounds}; default {text(field.default)}]"
        flag = parser.add_argument(
            flag_name(name), dest=name, default=argparse.SUPPRESS, help=help_text.replace("%", "%%")
        )
        if is_switch:
            flag.nargs, flag.const = "?", "true"


def flags(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as flags."""
    return {name: value for name, value in vars(options).items() if name in Settings.model_fields}


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop."""

    def read() -> Settings:
        return settings.load(flags(options), file=options.settings).settings

    loaded = read()
    with paused():
        from batchproof.service.server.start.launch import serve

    return serve(loaded, read)
