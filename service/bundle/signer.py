"""Sign a bundle: write model.sig into its folder."""

import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from batchproof.service.bundle import reader
from batchproof.service.bundle.files.safe_folder import Folder, opened
from batchproof.service.bundle.signing import SIGNATURE_FILE, envelope, keys, statement
from batchproof.service.bundle.signing.envelope import Envelope
from batchproof.service.errors import BundleError, SettingError


def sign(folder: Path, key: keys.PrivateKey, certificate_files: tuple[Path, ...] = ()) -> Path:
    """Write model.sig into the bundle at `folder`, and return its path; raises BundleError and SettingError.

    The bundle is read and checked first: nobody should vouch for files that the service refuses. `certificate_files`
    hold the signer's own certificate, then those that vouch for it; without them verifiers need the public key.
    """
    bundle = reader.read(folder)
    certificates = [certificate for path in certificate_files for certificate in keys.read_certificates(path)]
    if certificates and certificates[0].public_key() != key.public_key():
        raise SettingError(f"{certificate_files[0]} is not the certificate of this private key")
    with opened(folder) as files:
        raw = files.read("bundle.json", reader.Limits().json_bytes)
        hashed = {**digests(files, reader.Limits().other_bytes), "bundle.json": hashlib.sha256(raw).hexdigest()}
    listed = {name: entry.sha256 for name, entry in bundle.manifest.files.items()}
    if reader.parse_manifest(raw) != bundle.manifest or hashed.keys() - {"bundle.json"} != listed.keys():
        raise BundleError("the bundle changed while it was signed")
    if not listed.items() <= hashed.items():
        raise BundleError("the bundle changed while it was signed")
    payload = statement.encode(folder.resolve().name, hashed)
    signature = keys.sign(key, envelope.pre_authentication(payload))
    text = envelope.encode(
        Envelope(payload, signature, keys.fingerprint(key.public_key()), [*map(keys.der, certificates)])
    )
    return _write(bundle.folder / SIGNATURE_FILE, text)


def digests(files: Folder, max_bytes: int) -> dict[str, str]:
    """Return {name: SHA-256} of each file that a signature covers; raises BundleError."""
    names = files.names() - {SIGNATURE_FILE, *statement.IGNORED}
    return {name: files.digest(name, max_bytes)[0] for name in sorted(names)}


def _write(path: Path, text: bytes) -> Path:
    """Write a whole file or none: a reader never sees half of a signature."""
    path = path.parent.resolve() / path.name
    try:
        with NamedTemporaryFile(dir=path.parent.parent, prefix=".tmp-", delete=False) as file:
            whole = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                whole.chmod(0o644)
                whole.replace(path)
            finally:
                whole.unlink(missing_ok=True)  # it is left where it could not take its place
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror}") from error
    return path
