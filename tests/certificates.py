"""The extensions of certificates that RFC 5280 demands, and clients of Python 3.13 and later too."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_USE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def of_authority(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """Return the builder of an authority's own certificate, with `key` as its key."""
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(AUTHORITY_USE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def of_holder(builder: x509.CertificateBuilder, issuer: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """Return the builder of a server's or a client's certificate, which the key `issuer` will sign."""
    return builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
    )
