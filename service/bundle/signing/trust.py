"""Whether a bundle's signature counts: which keys and certificate authorities are trusted, and what they signed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from batchproof.installation import hint
from batchproof.service.access.patterns import certifies
from batchproof.service.bundle.files.safe_folder import Folder
from batchproof.service.bundle.signing import SIGNATURE_BYTES, SIGNATURE_FILE, envelope, statement
from batchproof.service.bundle.signing.envelope import Envelope
from batchproof.service.errors import BundleError, SettingError, printable

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from batchproof.service.bundle.signing.keys import PublicKey

Mode = Literal["warn", "require"]


@dataclass(frozen=True)
class Signed:
    """A signature that counts: who made it, and the SHA-256 of each file that it covers."""

    signer: str  # "key <first 16 hex digits of its fingerprint>", or the certificate's subject
    digests: Mapping[str, str] = field(repr=False)

    def check(self, name: str, sha256: str) -> None:
        """Raise BundleError where the file `name` is not what was signed."""
        if name not in self.digests:
            raise BundleError(f"{name} is not covered by the signature of {self.signer}")
        if self.digests[name] != sha256:
            raise BundleError(f"{name} was changed after {self.signer} signed it: its SHA-256 is {sha256}")

    def check_entries(self, digests: Mapping[str, str]) -> None:
        """Raise BundleError where bundle.json, itself signed, lists other files than the signature does.

        No file can be both then, so none is served, whether signatures are required or only wanted.
        """
        for name, sha256 in digests.items():
            self.check(name, sha256)

    def check_names(self, names: set[str]) -> None:
        """Raise BundleError where the files of the folder are not those that were signed."""
        for name in sorted(self.digests.keys() - names):
            raise BundleError(f"{name!r:.80} is missing: {self.signer} signed it")
        for name in sorted(names - self.digests.keys()):
            raise BundleError(f"{name!r:.80} is not covered by the signature of {self.signer}")


@dataclass(frozen=True)
class TrustPolicy:
    """Whose signatures are accepted, and whether a bundle needs one."""

    mode: Mode
    keys: tuple["PublicKey", ...] = ()
    roots: tuple["Certificate", ...] = ()
    subjects: tuple[str, ...] = ()  # patterns of certificate names, * for any text; none: every name

    def signed(self, folder: Folder) -> Signed:
        """Check model.sig of an open folder, its signature only; raises BundleError, and reads no other file."""
        if SIGNATURE_FILE not in folder.names():
            raise BundleError(f"the bundle is not signed: it has no {SIGNATURE_FILE}")
        sealed = envelope.decode(folder.read(SIGNATURE_FILE, SIGNATURE_BYTES))
        signer = self._signer(sealed)
        return Signed(signer, statement.decode(sealed.payload).digests)

    def _signer(self, sealed: Envelope) -> str:
        """Return who signed; raises BundleError if no trusted signer did."""
        from batchproof.service.bundle.signing import keys

        if sealed.certificates:
            key, subject, names = keys.certified_key(sealed.certificates, self.roots)
            if self.subjects and not any(certifies(names, pattern) for pattern in self.subjects):
                raise BundleError(f"{SIGNATURE_FILE} was made by {subject!r:.200}, which is not a trusted subject")
            candidates = {printable(subject)[:300]: key}
        else:
            by_print = {keys.fingerprint(key): key for key in self.keys}
            if sealed.key_hint is not None and sealed.key_hint not in by_print:
                raise BundleError(
                    f"{SIGNATURE_FILE} was made by the key {sealed.key_hint[:64]!r}, which is not trusted"
                )
            chosen = [sealed.key_hint] if sealed.key_hint is not None else list(by_print)
            candidates = {f"key {name[:16]}": by_print[name] for name in chosen}
        for signer, key in candidates.items():
            if keys.is_signed_by(key, sealed.signature, sealed.signed_bytes):
                return signer
        raise BundleError(f"the signature in {SIGNATURE_FILE} is not valid for {' or '.join(candidates) or 'any key'}")


def trust_policy(
    mode: Mode, key_files: Sequence[Path] = (), root_files: Sequence[Path] = (), subjects: Sequence[str] = ()
) -> TrustPolicy:
    """Read the trusted keys and certificate authorities; raises SettingError."""
    if not key_files and not root_files:
        raise SettingError(f"signatures = {mode} needs a trusted key or a trusted certificate authority")
    try:
        from batchproof.service.bundle.signing import keys
    except ImportError as error:
        raise SettingError(f"signatures = {mode} needs the package cryptography: {hint('signing')}") from error
    roots = [certificate for path in root_files for certificate in keys.read_certificates(path)]
    return TrustPolicy(mode, tuple(keys.read_public_key(path) for path in key_files), tuple(roots), tuple(subjects))
