"""`batchproof settings`: print what is in force and where each value came from."""

import argparse
from typing import Any

from batchproof.service.cli.parts import settings_page
from batchproof.service.cli.serve import add_flags, flags
from batchproof.service.configuration import settings
from batchproof.service.configuration.setting_sources import environment_name
from batchproof.service.configuration.setting_texts import text


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("settings", help="print the settings in force", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print docs/settings.md instead")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print one line for each setting, or the page about all of them."""
    if options.markdown:
        print(settings_page.markdown(), end="")
        return 0
    loaded = settings.load(flags(options), file=options.settings)
    for name, source in loaded.sources.items():
        unit = settings.Settings.model_fields[name].unit
        value = text(getattr(loaded.settings, name)) + (f" {unit}" if unit else "")
        print(f"{name:16} {value:24} {source:12} {environment_name(name)}")
    return 0
