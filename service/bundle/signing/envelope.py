"""The Sigstore bundle of a signature: a DSSE envelope, and what says whose key made it.

Formats: Sigstore bundle v0.3, DSSE v1 (its pre-authentication encoding is what the key signs).
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchproof.service.bundle.files import strict_json
from batchproof.service.bundle.signing import SIGNATURE_FILE
from batchproof.service.errors import BundleError

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_CERTIFICATES = 10


@dataclass(frozen=True)
class Envelope:
    """A signature over a payload, and how its key is named: by a fingerprint, by certificates, or by neither."""

    payload: bytes
    signature: bytes
    key_hint: str | None = None  # hex SHA-256 of the public key's PEM text
    certificates: Sequence[bytes] = ()  # DER, the signer's own first

    @property
    def signed_bytes(self) -> bytes:
        """Return what the key signed: DSSE's pre-authentication encoding of the payload."""
        return pre_authentication(self.payload)


def pre_authentication(payload: bytes) -> bytes:
    """Return DSSE's encoding of a payload of in-toto's type."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def encode(envelope: Envelope) -> bytes:
    """Return the text of model.sig."""
    if envelope.certificates:
        chain = [{"rawBytes": _base64(der)} for der in envelope.certificates]
        material: dict[str, Any] = {"x509CertificateChain": {"certificates": chain}}
    else:
        material = {"publicKey": {"hint": envelope.key_hint}}
    content = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {**material, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _base64(envelope.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _base64(envelope.signature), "keyid": ""}],
        },
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def decode(raw: bytes) -> Envelope:
    """Read model.sig; raises BundleError for anything but one signature of a key or of a certificate."""
    try:
        content = strict_json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{SIGNATURE_FILE} {error}") from error
    if not isinstance(content, dict) or content.get("mediaType") != MEDIA_TYPE:
        raise BundleError(f"{SIGNATURE_FILE} must be a Sigstore bundle of the media type {MEDIA_TYPE}")
    sealed = _object(content, "dsseEnvelope")
    signatures = sealed.get("signatures")
    if sealed.get("payloadType") != PAYLOAD_TYPE or not isinstance(signatures, list) or len(signatures) != 1:
        raise BundleError(f"{SIGNATURE_FILE} must hold one signature over a payload of the type {PAYLOAD_TYPE}")
    signature = _bytes(_object({"signature": signatures[0]}, "signature"), "sig")
    material = _object(content, "verificationMaterial")
    hint, certificates = _material(material)
    return Envelope(_bytes(sealed, "payload"), signature, hint, certificates)


def _material(material: dict[str, Any]) -> tuple[str | None, list[bytes]]:
    """Return the key's fingerprint and the certificates."""
    if "publicKey" in material:
        hint = _object(material, "publicKey").get("hint")  # before model-signing 1.1 the key itself stood here
        return (hint if isinstance(hint, str) else None), []
    if "x509CertificateChain" in material:
        chain = _object(material, "x509CertificateChain").get("certificates")
        if not isinstance(chain, list) or not 0 < len(chain) <= MAX_CERTIFICATES:
            raise BundleError(f"{SIGNATURE_FILE} must hold 1 to {MAX_CERTIFICATES} certificates")
        return None, [_bytes(_object({"certificate": entry}, "certificate"), "rawBytes") for entry in chain]
    if "certificate" in material:
        raise BundleError(f"{SIGNATURE_FILE} is a keyless Sigstore signature; sign with a key or a certificate instead")
    raise BundleError(f"{SIGNATURE_FILE} names neither a public key nor a certificate chain")


def _object(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        raise BundleError(f"{SIGNATURE_FILE}: {key} must be a JSON object")
    return value


def _bytes(content: dict[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(content[key], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise BundleError(f"{SIGNATURE_FILE}: {key} must be Base64 text") from error


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
