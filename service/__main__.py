"""The command line: `batchproof serve`, `batchproof settings`, ..."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from batchproof import __version__
from batchproof.service.cli.parts.parser import Arguments
from batchproof.service.errors import STARTUP_FAILED, USAGE, SettingError
from batchproof.service.server.start.gc_policy import paused

COMMANDS = {
    "bom": "publishing.bom",
    "card": "publishing.card",
    "drift": "drift",
    "export": "publishing.export",
    "key": "key",
    "predict": "predict",
    "push": "publishing.push",
    "replay": "replay",
    "serve": "serve",
    "settings": "settings",
    "sign": "signing.sign",
    "verify": "verify",
    "verify-signature": "signing.verify_signature",
}  # the module of each in batchproof.service.cli
# Both take time and are of no use here: at each start threads for NumPy's matrix products, of which there are none but
# small ones, and with the first page a search through all that is installed for plug-ins that watch validation.
UNUSED = {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name, value in UNUSED.items():
        os.environ.setdefault(name, value)
    try:
        with paused():
            options = _parser(given[:1]).parse_args(given)
        return int(options.run(options))
    except SettingError as error:
        print(f"batchproof: {error}", file=sys.stderr)
        return USAGE
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package == "batchproof":
            raise
        is_absent = isinstance(error, ModuleNotFoundError) and package
        fault = _not_installed(package) if is_absent else _cannot_be_imported(package, error)
        print(f"batchproof: {fault}", file=sys.stderr)
        return STARTUP_FAILED


def _not_installed(package: str) -> str:
    from batchproof.installation import hint_for

    return f"{package} is not installed: {hint_for(package)}"


def _cannot_be_imported(package: str, error: ImportError) -> str:
    """Return the sentence for a package that is there and raises, such as one that was built for another Python."""
    reason = " ".join(str(error).split())
    return f"{package or 'a package'} is installed but cannot be imported: {reason}"


def _parser(first: Sequence[str]) -> Arguments:
    """Return the parser with the command named `first`, or with all: each imports what it needs."""
    parser = Arguments(prog="batchproof", description="Serve bundles and check what they promise.")
    parser.add_argument("--version", action="version", version=f"batchproof {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in [one for one in COMMANDS if one in first] or COMMANDS:
        import_module(f"batchproof.service.cli.{COMMANDS[name]}").add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
