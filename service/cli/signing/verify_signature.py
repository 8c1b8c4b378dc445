"""`batchproof verify-signature`: who signed a bundle, and whether its files are still what was signed.

Exit status: 0 a trusted key or certificate signed every file; 1 none did, or a file was changed; 2 the question makes no
sense, such as a key that cannot be read.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from batchproof.service.bundle import reader
from batchproof.service.bundle.signing.trust import trust_policy
from batchproof.service.errors import USAGE, BundleError, SettingError

NOT_SIGNED = 1


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("verify-signature", help="check who signed a bundle", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the folder of one version, such as models/NAME/1")
    parser.add_argument(
        "--trusted-key", type=Path, action="append", default=[], metavar="FILE", help="PEM public key; may be repeated"
    )
    parser.add_argument(
        "--trusted-ca", type=Path, action="append", default=[], metavar="FILE",
        help="PEM certificates of authorities whose signers count; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--trusted-subject", action="append", default=[], metavar="PATTERN",
        help="names of certificates that count, * for any text: an address, a host, a URI or CN=...; may be repeated",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        trust = trust_policy("require", arguments.trusted_key, arguments.trusted_ca, arguments.trusted_subject)
    except SettingError as error:
        print(f"batchproof verify-signature: {error}", file=sys.stderr)
        return USAGE
    try:
        bundle = reader.read(arguments.bundle, trust=trust)
    except BundleError as error:
        print(f"{arguments.bundle}: {error}", file=sys.stderr)
        return NOT_SIGNED
    print(f"{arguments.bundle}: {len(bundle.manifest.files) + 1} files, signed by {bundle.signer}.")
    return 0
