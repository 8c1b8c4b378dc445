"""`batchproof-train --sign KEY`: vouch for the bundle that was just written."""

import os
from pathlib import Path
from typing import Any

from batchproof.installation import hint
from batchproof.service.errors import BundleError
from batchproof.service.errors import SettingError as SigningError
from batchproof.training.settings import SettingError

PASSWORD = "BATCHPROOF_KEY_PASSWORD"  # noqa: S105 - the name of an environment variable


class Signing:
    """A private key, read before the training so that a wrong one does not waste it."""

    def __init__(self, key: Path, certificates: tuple[Path, ...] = ()) -> None:
        """Read the key and the certificates; raises SettingError."""
        try:
            from batchproof.service.bundle.signing import keys
        except ImportError as error:
            raise SettingError(f"--sign needs the package cryptography: {hint('signing')}") from error
        try:
            self._key: Any = _read(keys, key)
            for path in certificates:
                keys.read_certificates(path)
        except SigningError as error:
            raise SettingError(f"--sign: {error}.") from error
        self._certificates = certificates
        self._fingerprint = keys.fingerprint(self._key.public_key())[:16]

    def sign(self, folder: Path) -> str:
        """Write model.sig into the bundle and return the sentence that says so; raises SettingError, and writes none then."""
        from batchproof.service.bundle import signer

        try:
            signer.sign(folder, self._key, self._certificates)
        except (BundleError, SigningError) as error:
            raise SettingError(f"{folder} is written, but is not signed: {error}.") from error
        return f"Signed {folder} with the key {self._fingerprint}."


def _read(keys: Any, path: Path) -> Any:
    """Return the private key; an encrypted one needs its password in the environment, as training asks for nothing."""
    try:
        return keys.read_private_key(path)
    except keys.PasswordNeededError:
        password = os.environ.get(PASSWORD)
        if password is None:
            raise SigningError(f"{path} is encrypted: set {PASSWORD}") from None
        return keys.read_private_key(path, password.encode())
