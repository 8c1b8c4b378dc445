"""`batchproof sign`: sign a bundle with a private key. Writes model.sig into the bundle's folder.

The format is OpenSSF Model Signing v1, so other tools for signed models can check it too.

  openssl ecparam -name prime256v1 -genkey -noout -out sales.key
  openssl ec -in sales.key -pubout -out sales.pub
  batchproof sign models/penguins/1 --key sales.key
  batchproof verify-signature models/penguins/1 --trusted-key sales.pub
  batchproof serve --signatures require --trusted-keys sales.pub

Exit status: 0 signed; 2 a sentence says why not, and nothing was written.
"""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from batchproof.installation import hint
from batchproof.service.errors import USAGE, BundleError, SettingError

PASSWORD = "BATCHPROOF_KEY_PASSWORD"  # noqa: S105 - the name of an environment variable


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("sign", help="sign a bundle with a private key", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the folder of one version, such as models/NAME/1")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="PEM private key of the curve P-256, P-384 or P-521"
    )
    parser.add_argument(
        "--certificate", type=Path, action="append", default=[], metavar="FILE",
        help="PEM certificate of the key, then those of its issuers (again for each file); the root may stay out",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        from batchproof.service.bundle import signer
        from batchproof.service.bundle.signing import keys
    except ImportError:
        print(
            f"batchproof sign: needs the package cryptography: {hint('signing')}",
            file=sys.stderr,
        )
        return USAGE
    try:
        key = _key(keys, arguments.key)
        path = signer.sign(arguments.bundle, key, tuple(arguments.certificate))
    except (BundleError, SettingError) as error:
        print(f"batchproof sign: {error}", file=sys.stderr)
        return USAGE
    print(f"Wrote {path}, signed by key {keys.fingerprint(key.public_key())[:16]}.")
    return 0


def _key(keys: Any, path: Path) -> Any:
    """Read the private key; its password comes from the environment or the terminal."""
    try:
        return keys.read_private_key(path)
    except keys.PasswordNeededError:
        password = os.environ.get(PASSWORD)
        if password is None and not sys.stdin.isatty():
            raise SettingError(f"{path} is encrypted: set {PASSWORD}") from None
        return keys.read_private_key(path, (password or getpass.getpass(f"Password of {path}: ")).encode())
