"""Keys and certificates, as `cryptography` reads them: elliptic curves P-256, P-384 and P-521.

The one module that imports `cryptography`; it loads when a signature is made or checked, never before.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from batchproof.service.access.patterns import CertifiedName, Kind
from batchproof.service.errors import BundleError, SettingError

PublicKey = ec.EllipticCurvePublicKey
PrivateKey = ec.EllipticCurvePrivateKey
CODE_SIGNING = x509.oid.ExtendedKeyUsageOID.CODE_SIGNING
HASHES = {
    256: hashes.SHA256(),
    384: hashes.SHA384(),
    521: hashes.SHA512(),
}  # bits of the curve -> hash, as Sigstore has it


KINDS: dict[type[x509.GeneralName], Kind] = {
    x509.RFC822Name: "mail", x509.DNSName: "host", x509.UniformResourceIdentifier: "uri",
}  # fmt: skip


class PasswordNeededError(SettingError):
    """A private key that is encrypted, read without a password."""


def read_private_key(path: Path, password: bytes | None = None) -> PrivateKey:
    """Read a PEM private key; raises SettingError, and PasswordNeededError where it is encrypted."""
    return private_key(_read(path), str(path), password)


def private_key(pem: bytes, name: str, password: bytes | None = None) -> PrivateKey:
    """Return the PEM private key that errors call `name`; raises as `read_private_key` does."""
    try:
        key = serialization.load_pem_private_key(pem, password)
    except TypeError as error:  # how the library says that a password is missing, or that one was given for nothing
        raise PasswordNeededError(
            f"{name} is encrypted and no password was given, or is not encrypted and one was given"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingError(f"{name} holds no private key that can be read: {error}") from error
    if not isinstance(key, PrivateKey) or key.curve.key_size not in HASHES:
        raise SettingError(f"{name} must hold a private key of the curve P-256, P-384 or P-521")
    return key


def read_public_key(path: Path) -> PublicKey:
    """Read a PEM public key; raises SettingError."""
    try:
        key = serialization.load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingError(f"{path} holds no public key that can be read: {error}") from error
    if not isinstance(key, PublicKey) or key.curve.key_size not in HASHES:
        raise SettingError(f"{path} must hold a public key of the curve P-256, P-384 or P-521")
    return key


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Read the PEM certificates of a file; raises SettingError."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise SettingError(f"{path} holds no certificate that can be read: {error}") from error


def sign(key: PrivateKey, message: bytes) -> bytes:
    """Return the ECDSA signature of `message`."""
    return key.sign(message, ec.ECDSA(HASHES[key.curve.key_size]))


def is_signed_by(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Say whether `key` made `signature` over `message`."""
    try:
        key.verify(signature, message, ec.ECDSA(HASHES[key.curve.key_size]))
    except InvalidSignature:
        return False
    return True


def fingerprint(key: PublicKey) -> str:
    """Return the hex SHA-256 of the key's PEM text: how a signature names its key."""
    text = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(text).hexdigest()


def certified_key(
    chain: Sequence[bytes], roots: Sequence[x509.Certificate]
) -> tuple[PublicKey, str, tuple[CertifiedName, ...]]:
    """Return the key of a certificate that a trusted root vouches for now, its subject and its names; raises BundleError."""
    try:
        leaf, *issuers = [x509.load_der_x509_certificate(der) for der in chain]
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(roots)))
            .time(datetime.now(UTC))
            .extension_policies(ca_policy=_issuers(), ee_policy=verification.ExtensionPolicy.permit_all())
            .build_client_verifier()
        )
        verifier.verify(leaf, issuers)
        key = leaf.public_key()
        may_sign = _may_sign(leaf)
        names = tuple(_names(leaf))
    except verification.VerificationError as error:
        raise BundleError(f"the signer's certificate is not trusted: {error}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BundleError(f"the signer's certificate cannot be read: {error}") from error
    if not isinstance(key, PublicKey) or key.curve.key_size not in HASHES:
        raise BundleError("the signer's certificate must have a key of the curve P-256, P-384 or P-521")
    if not may_sign:
        raise BundleError("the signer's certificate is not for signing: it needs digitalSignature or codeSigning")
    return key, subject(leaf), names


def der(certificate: x509.Certificate) -> bytes:
    """Return the certificate in DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def subject(certificate: x509.Certificate) -> str:
    """Return the subject of a certificate as RFC 4514 text."""
    return certificate.subject.rfc4514_string()


def _issuers() -> verification.ExtensionPolicy:
    """Return what a certificate that vouches for others must say: that it is a certificate authority."""
    return verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
    )


def _may_sign(certificate: x509.Certificate) -> bool:
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.KeyUsage) and extension.value.digital_signature:
            return True
        if isinstance(extension.value, x509.ExtendedKeyUsage) and CODE_SIGNING in extension.value:
            return True
    return False


def _names(certificate: x509.Certificate) -> Iterator[CertifiedName]:
    """Give the names of the certificate's owner: the subject and its CN, addresses of mail, hosts and services (URI).

    A subject in which a value has a comma, or another sign that separates values, counts for nothing: to a pattern it could
    look like other values than it has.
    """
    whole = subject(certificate)
    common = certificate.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    if not any(sign in str(attribute.value) for attribute in certificate.subject for sign in ',+=\\"'):
        yield from (CertifiedName("subject", f"CN={attribute.value!s}") for attribute in common)
        yield CertifiedName("subject", whole)
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            for name in extension.value:
                if isinstance(name, x509.RFC822Name | x509.DNSName | x509.UniformResourceIdentifier):
                    yield CertifiedName(KINDS[type(name)], re.sub(r"\s+", " ", name.value))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error
