"""The command line: `batchproof serve`, `batchproof settings`, ..."""

import argparse
import sys
from collections.abc import Sequence

from service import __version__, predict_command, serve_command, settings_command, verify_command
from service.errors import USAGE, SettingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="batchproof", description="Serve bundles and check what they promise.")
    parser.add_argument("--version", action="version", version=f"batchproof {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (predict_command, serve_command, settings_command, verify_command):
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except SettingError as error:
        print(f"batchproof: {error}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
