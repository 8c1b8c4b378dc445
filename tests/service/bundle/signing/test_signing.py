"""Signed bundles, against the reference implementation of the format and against whoever changes a file."""

import base64
import datetime as dt
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from batchproof.service.__main__ import main
from batchproof.service.bundle import reader, signer, signing
from batchproof.service.bundle.files.safe_folder import opened
from batchproof.service.bundle.reader import Bundle
from batchproof.service.bundle.signing import SIGNATURE_FILE, envelope, keys, statement
from batchproof.service.bundle.signing.trust import Signed, TrustPolicy, trust_policy
from batchproof.service.errors import BundleError, SettingError
from batchproof.service.inference.catalogue import registry, repository
from tests.bundles import Content, make_bundle, network, reseal

CURVES = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]
DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)


class Authority:
    """A certificate authority of the tests, and the files of the signers that it certified."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = (
            self._builder(self.name, self.key, NOW - 3 * DAY, NOW + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage(key_cert_sign=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file = write_certificate(folder / "ca.pem", self.certificate)

    def certify(
        self,
        name: str,
        *,
        until: dt.datetime = NOW + DAY,
        signing: bool = True,
        code: bool | None = None,
        key: Any = None,
        common_name: str = "",
    ) -> tuple[Path, Path]:
        """Return (private key, certificate) of a new signer called `name`@example.org; with a `common_name`, @example.net.

        `signing`: whether its key usage is digital signatures; `code`: whether its purpose is signing code, by default
        the same; `key`: another key than one of P-256.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        code = signing if code is None else code
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or name)])
        address = f"{name}@example.{'net' if common_name else 'org'}"
        certificate = (
            self._builder(subject, key, NOW - 2 * DAY, until)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
            .add_extension(usage(digital_signature=signing, content_commitment=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose(signing=code)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return write_key(self.folder / f"{name}.key", key), write_certificate(self.folder / f"{name}.crt", certificate)

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
        since: dt.datetime,
        until: dt.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
        )


def usage(**given: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: given.get(name, False) for name in names})


def purpose(*, signing: bool) -> x509.ObjectIdentifier:
    return ExtendedKeyUsageOID.CODE_SIGNING if signing else ExtendedKeyUsageOID.EMAIL_PROTECTION


def write_key(path: Path, key: Any, password: bytes | None = None) -> Path:
    secret = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    return path


def write_public(path: Path, key: Any) -> Path:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, kind))
    return path


def write_certificate(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "flowers" / "1"))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a private key's file; its public key stands beside it with the ending .pub."""
    private = ec.generate_private_key(ec.SECP256R1())
    path = write_key(tmp_path_factory.mktemp("keys") / "signer.key", private)
    write_public(path.with_suffix(".pub"), private)
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def signed(folder: Path, key: Path, *certificates: Path) -> Path:
    signer.sign(folder, keys.read_private_key(key), certificates)
    return folder


def trusting(key: Path) -> TrustPolicy:
    return trust_policy("require", [key.with_suffix(".pub")])


def refusal(folder: Path, trust: TrustPolicy) -> str:
    with pytest.raises(BundleError) as caught:
        reader.read(folder, trust=trust)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def edit_statement(folder: Path, key: Path, edit: Callable[[Content], object]) -> None:
    """Change the signed statement and sign it again with `key`."""
    path = folder / SIGNATURE_FILE
    content = json.loads(path.read_bytes())
    payload = json.loads(base64.b64decode(content["dsseEnvelope"]["payload"]))
    edit(payload)
    raw = json.dumps(payload).encode()
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(raw), raw)
    content["dsseEnvelope"]["payload"] = base64.b64encode(raw).decode()
    signature = keys.sign(keys.read_private_key(key), message)
    content["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_the_reference_reads_what_we_sign(folder: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    """model-signing verifies our signature with the public key, for every curve."""
    private = ec.generate_private_key(curve)
    public = write_public(tmp_path / "signer.pub", private)
    signed(folder, write_key(tmp_path / "signer.key", private))

    checker = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    checker.set_hashing_config(model_signing.hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE_FILE]))
    checker.verify(folder, folder / SIGNATURE_FILE)
    (folder / "golden.json").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"golden\.json"):
        checker.verify(folder, folder / SIGNATURE_FILE)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_we_read_what_the_reference_signs(folder: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    """A bundle that model-signing signed is served where its key is trusted, for every curve."""
    private = ec.generate_private_key(curve)
    public = write_public(tmp_path / "signer.pub", private)
    config = model_signing.signing.Config().use_elliptic_key_signer(
        private_key=write_key(tmp_path / "signer.key", private)
    )
    config.sign(folder, folder / SIGNATURE_FILE)

    bundle = reader.read(folder, trust=trust_policy("require", [public]))
    assert bundle.signer == f"key {keys.fingerprint(private.public_key())[:16]}"


def test_certificates_work_both_ways(folder: Path, authority: Authority) -> None:
    """Signatures with a certificate are read by model-signing, and its own by us."""
    key, certificate = authority.certify("ada")
    signed(folder, key, certificate)
    checker = model_signing.verifying.Config().use_certificate_verifier(certificate_chain=[authority.file])
    checker.set_hashing_config(model_signing.hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE_FILE]))
    checker.verify(folder, folder / SIGNATURE_FILE)

    (folder / SIGNATURE_FILE).unlink()
    config = model_signing.signing.Config().use_certificate_signer(
        private_key=key, signing_certificate=certificate, certificate_chain=[authority.file]
    )
    config.sign(folder, folder / SIGNATURE_FILE)
    trust = trust_policy("require", root_files=[authority.file], subjects=["*@example.org"])
    assert reader.read(folder, trust=trust).signer == "CN=ada"


@pytest.mark.parametrize(
    ("hashing", "sentence"),
    [
        (model_signing.hashing.Config().use_shard_serialization(), "hashed whole with SHA-256"),
        (
            model_signing.hashing.Config().use_file_serialization(hashing_algorithm="blake3"),
            "hashed whole with SHA-256",
        ),
    ],
    ids=["shards", "blake3"],
)
def test_other_digests_are_refused(folder: Path, key: Path, hashing: Any, sentence: str) -> None:
    """A signature over anything but one SHA-256 for each file is refused, and says what is wanted."""
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=key)
    config.set_hashing_config(hashing).sign(folder, folder / SIGNATURE_FILE)

    assert sentence in refusal(folder, trusting(key))


def test_every_changed_byte_is_found(tmp_path: Path, key: Path) -> None:
    """A bundle of which any byte was changed is refused; only a signature that says the same may be written otherwise."""
    folder = signed(make_bundle(tmp_path, task="regression", graph=network("regression", hidden=1)), key)
    made = signature_of(folder, trusting(key))
    assert made is not None
    for path in sorted(folder.iterdir()):
        for changed in each_byte_changed(path):
            if path.name == SIGNATURE_FILE:
                path.write_bytes(changed)
                assert signature_of(folder, trusting(key)) in (None, made)
            else:
                with pytest.raises(BundleError, match=f"{path.name} was changed after"):
                    made.check(path.name, hashlib.sha256(changed).hexdigest())


def each_byte_changed(path: Path) -> Iterator[bytes]:
    whole = path.read_bytes()
    for place in range(len(whole)):
        yield whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


def signature_of(folder: Path, trust: TrustPolicy) -> Signed | None:
    """Return what the signature says, or None where it does not count."""
    with opened(folder) as files:
        try:
            return trust.signed(files)
        except BundleError:
            return None


def test_a_lying_bundle_is_served_only_without_signatures(folder: Path, key: Path) -> None:
    """Exchanged classes with all checksums made anew pass every check but the signature's."""
    signed(folder, key)
    reseal(folder, lambda content: content["signature"]["classes"].reverse())

    assert reader.read(folder).manifest.signature.classes == ("blue", "green", "red")
    assert "bundle.json was changed after key" in refusal(folder, trusting(key))


def test_warn_serves_and_says_why(folder: Path, key: Path) -> None:
    """Where signatures are wanted but not required, an unsigned or changed bundle is read with the reason on record."""
    trust = trust_policy("warn", [key.with_suffix(".pub")])
    assert reader.read(folder, trust=trust).unsigned == "the bundle is not signed: it has no model.sig"
    signed(folder, key)
    sound: Bundle = reader.read(folder, trust=trust)
    assert (sound.unsigned, sound.signer is not None) == (None, True)
    reseal(folder, lambda content: content["signature"]["classes"].reverse())
    changed = reader.read(folder, trust=trust)
    assert changed.signer is None
    assert "was changed after" in str(changed.unsigned)


def test_off_reads_signed_bundles(folder: Path, key: Path) -> None:
    """A service that checks no signatures serves signed bundles, whatever their signature says."""
    signed(folder, key)
    (folder / SIGNATURE_FILE).write_text("nothing")

    assert reader.read(folder).signer is None


def test_nothing_of_an_untrusted_bundle_is_parsed(folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A required signature that does not count refuses a bundle before bundle.json and the graph are looked into."""
    monkeypatch.setattr(reader, "parse_manifest", lambda raw: pytest.fail("bundle.json was parsed"))
    monkeypatch.setattr(reader.graph_check, "check", lambda *given: pytest.fail("the graph was parsed"))

    assert "is not signed" in refusal(folder, trusting(key))
    signed_by_other = write_key(folder.parent / "other.key", ec.generate_private_key(ec.SECP256R1()))
    monkeypatch.undo()
    signed(folder, signed_by_other)
    monkeypatch.setattr(reader, "parse_manifest", lambda raw: pytest.fail("bundle.json was parsed"))
    assert "which is not trusted" in refusal(folder, trusting(key))


def test_an_extra_file_is_refused(folder: Path, key: Path) -> None:
    """A file that nobody signed is refused, as is a signed file that is missing."""
    signed(folder, key)
    (folder / "notes.txt").write_text("hello")
    assert "'notes.txt' is not covered by the signature" in refusal(folder, trusting(key))
    (folder / "notes.txt").unlink()
    (folder / "golden.json").rename(folder.parent / "golden.json")
    assert "'golden.json' is missing: key" in refusal(folder, trusting(key))
    edit_statement(folder, key, lambda payload: payload["predicate"]["resources"].pop())
    assert "own digest does not match" in refusal(folder, trusting(key))


def test_a_file_that_the_signature_does_not_name_is_refused() -> None:
    """A file that bundle.json lists and nobody signed is refused, though no such file is in the folder."""
    made = Signed("key 0123", {"bundle.json": "00"})
    made.check_entries({"bundle.json": "00"})
    with pytest.raises(BundleError, match=r"report\.html is not covered by the signature of key 0123"):
        made.check_entries({"bundle.json": "00", "report.html": "00"})


def test_without_cryptography_signatures_are_refused_at_the_start(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that must check signatures and lacks the package for it says which to install, and does not start."""
    monkeypatch.delattr(signing, "keys")
    monkeypatch.setitem(sys.modules, "batchproof.service.bundle.signing.keys", None)
    with pytest.raises(SettingError, match=r"needs the package cryptography: pip install .*cryptography"):
        trusting(key)


def test_a_signature_that_cannot_be_written_leaves_nothing(folder: Path, key: Path) -> None:
    """Where model.sig cannot take its place, the refusal says why, and no half of it stays anywhere."""
    (folder / SIGNATURE_FILE).mkdir()
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(BundleError, match=r"model\.sig cannot be written: Is a directory"):
        signed(folder, key)
    assert sorted(folder.parent.rglob("*")) == before


def test_the_certificate_must_be_of_the_key(folder: Path, authority: Authority) -> None:
    """A certificate of another key than the one that signs is refused before anything is written."""
    key, _ = authority.certify("ada")
    _, other = authority.certify("bob")
    with pytest.raises(SettingError, match=r"bob\.crt is not the certificate of this private key"):
        signed(folder, key, other)
    assert not (folder / SIGNATURE_FILE).exists()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda payload: payload.update(predicateType="https://model_signing/Digests/v0.1"), "must be of the type"),
        (lambda payload: payload.update(_type="https://in-toto.io/Statement/v0.1"), "must be of the type"),
        (lambda payload: payload.update(subject=[]), "own digest does not match"),
        (lambda payload: payload["predicate"].update(resources={}), "must list 1 to"),
        (lambda payload: payload["predicate"]["resources"][0].update(algorithm="md5"), "needs a name and a SHA-256"),
        (lambda payload: payload["predicate"]["resources"][0].update(digest="00"), "needs a name and a SHA-256"),
        (lambda payload: payload["predicate"]["resources"][0].update(name=None), "needs a name and a SHA-256"),
        (
            lambda payload: payload["predicate"]["resources"].append(payload["predicate"]["resources"][0]),
            "lists 'bundle.json' twice",
        ),
    ],
)
def test_statements_of_other_shapes_are_refused(
    folder: Path, key: Path, edit: Callable[[Content], object], sentence: str
) -> None:
    """A valid signature over a statement that is not of this format counts for nothing."""
    signed(folder, key)
    edit_statement(folder, key, edit)

    assert sentence in refusal(folder, trusting(key))


def test_a_signed_text_that_is_no_statement_is_refused(folder: Path, key: Path) -> None:
    """A valid signature over bytes that are not JSON counts for nothing."""
    private = keys.read_private_key(key)
    signature = keys.sign(private, envelope.pre_authentication(b"{"))
    content = envelope.Envelope(b"{", signature, keys.fingerprint(private.public_key()))
    (folder / SIGNATURE_FILE).write_bytes(envelope.encode(content))

    assert "model.sig: the signed statement is not JSON" in refusal(folder, trusting(key))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda content: content.update(mediaType="application/json"), "must be a Sigstore bundle"),
        (lambda content: content.update(dsseEnvelope=[]), "dsseEnvelope must be a JSON object"),
        (lambda content: content["dsseEnvelope"].update(signatures=[]), "must hold one signature"),
        (lambda content: content["dsseEnvelope"].update(payloadType="text/plain"), "must hold one signature"),
        (lambda content: content["dsseEnvelope"].update(payload="é"), "payload must be Base64 text"),
        (lambda content: content["dsseEnvelope"]["signatures"][0].update(sig=1), "sig must be Base64 text"),
        (lambda content: content["dsseEnvelope"]["signatures"][0].update(sig="AAAA"), "is not valid for key"),
        (lambda content: content["verificationMaterial"].clear(), "names neither a public key nor a certificate"),
        (
            lambda content: content.update(verificationMaterial={"certificate": {"rawBytes": ""}}),
            "is a keyless Sigstore signature",
        ),
        (
            lambda content: content.update(verificationMaterial={"x509CertificateChain": {"certificates": []}}),
            "must hold 1 to 10 certificates",
        ),
        (
            lambda content: content.update(
                verificationMaterial={"x509CertificateChain": {"certificates": [{"rawBytes": "AAAA"}]}}
            ),
            "certificate cannot be read",
        ),
    ],
)
def test_envelopes_of_other_shapes_are_refused(
    folder: Path, key: Path, edit: Callable[[Content], object], sentence: str
) -> None:
    """Whatever stands in model.sig, the refusal is one sentence that says what should."""
    signed(folder, key)
    path = folder / SIGNATURE_FILE
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_text(json.dumps(content))

    assert sentence in refusal(folder, trusting(key))


def test_a_key_without_a_hint_is_found(folder: Path, key: Path) -> None:
    """A signature that names no key counts where one of the trusted keys made it, as old signers wrote them."""
    signed(folder, key)
    path = folder / SIGNATURE_FILE
    content = json.loads(path.read_bytes())
    content["verificationMaterial"] = {"publicKey": {"rawBytes": "", "keyDetails": "PKIX_ECDSA_P256_SHA_256"}}
    del content["dsseEnvelope"]["signatures"][0]["keyid"]
    path.write_text(json.dumps(content))

    assert reader.read(folder, trust=trusting(key)).signer is not None


def test_certificates_that_do_not_count(folder: Path, authority: Authority, tmp_path: Path) -> None:
    """A certificate counts only from a trusted authority, in its time, for signing, and of a trusted subject."""
    trust = trust_policy("require", root_files=[authority.file], subjects=["ada@example.org"])
    (tmp_path / "other").mkdir()
    for name, given, sentence in (
        ("bob", {}, "is not a trusted subject"),
        ("ada", {"until": NOW - DAY}, "certificate is not trusted"),
        ("ada", {"signing": False}, "is not for signing"),
    ):
        signed(folder, *authority.certify(name, **given))
        assert sentence in refusal(folder, trust)
    signed(folder, *Authority(tmp_path / "other").certify("ada"))
    assert "certificate is not trusted" in refusal(folder, trust)
    signed(folder, *authority.certify("ada"))
    assert reader.read(folder, trust=trust).signer == "CN=ada"


@pytest.mark.parametrize("name", ["eve@example.org", "eve,O=Example", "https://example.org/signers/eve"])
@pytest.mark.parametrize("pattern", ["*@example.org", "*,O=Example", "https://example.org/signers/*", "*.org"])
def test_a_subject_passes_for_nothing_else(folder: Path, authority: Authority, name: str, pattern: str) -> None:
    """A subject that its owner chose is neither an address nor a URI, and a comma in it ends no part of it."""
    trust = trust_policy("require", root_files=[authority.file], subjects=[pattern])
    certificate = authority.certify("eve", common_name=name)
    signed(folder, *certificate)

    assert "is not a trusted subject" in refusal(folder, trust)


def test_a_signature_is_about_its_own_bundle(tmp_path: Path, key: Path) -> None:
    """A signed bundle under another name or version, or with the signature of another of the signer's bundles, is refused."""
    models = tmp_path / "models"
    for name in ("flowers", "others"):
        signed(make_bundle(models, name), key)
    shutil.copytree(models / "flowers" / "1", models / "roses" / "1")
    shutil.copytree(models / "flowers" / "1", models / "flowers" / "2")
    shutil.copytree(models / "flowers" / "1", models / "swapped" / "1")
    shutil.copy(models / "others" / "1" / SIGNATURE_FILE, models / "flowers" / "2" / SIGNATURE_FILE)
    folders, _ = repository.scan(models)
    refused = {}
    for found in folders:
        try:
            registry.read(found, None, trusting(key))
        except BundleError as error:
            refused[found.name, found.version] = str(error)
    assert refused.keys() == {("roses", 1), ("flowers", 2), ("swapped", 1)}
    assert "changed after" in refused["flowers", 2]
    assert "but its folder says" in refused["roses", 1]


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_what_changes_while_it_is_signed_is_not_signed(
    folder: Path, key: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that are hashed are those that were checked, or nothing is written."""
    read = reader.read

    def read_and_change(path: Path) -> reader.Bundle:
        checked = read(path)
        (path / name).write_bytes((path / name).read_bytes() + b" ")
        return checked

    monkeypatch.setattr(signer.reader, "read", read_and_change)
    with pytest.raises(BundleError):
        signer.sign(folder, keys.read_private_key(key))
    assert not (folder / SIGNATURE_FILE).exists()
    assert not list(folder.parent.glob(".tmp*"))


def test_wrong_keys_are_settings_errors(tmp_path: Path, key: Path) -> None:
    """A key or certificate that cannot be used stops the start with one sentence that names its file."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    files = {
        "missing.pub": "cannot be read",
        "text.pub": "holds no public key that can be read",
        "rsa.pub": "must hold a public key of the curve",
    }
    (tmp_path / "text.pub").write_text("hello")
    write_public(tmp_path / "rsa.pub", weak)
    for name, sentence in files.items():
        with pytest.raises(SettingError, match=f"{name}.*{sentence}"):
            trust_policy("require", [tmp_path / name])
    with pytest.raises(SettingError, match="holds no certificate"):
        trust_policy("require", root_files=[key])
    with pytest.raises(SettingError, match="must hold a private key of the curve"):
        keys.read_private_key(write_key(tmp_path / "rsa.key", weak))
    with pytest.raises(SettingError, match="needs a trusted key"):
        trust_policy("require")


def test_the_commands(folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`sign` and `verify-signature` say who signed what; a changed file or an unusable key has its own exit status."""
    public = str(key.with_suffix(".pub"))
    assert main(["verify-signature", str(folder), "--trusted-key", public]) == 1
    assert main(["sign", str(folder), "--key", str(key)]) == 0
    assert main(["verify-signature", str(folder), "--trusted-key", public]) == 0
    assert main(["verify-signature", str(folder), "--trusted-key", str(key)]) == 2
    assert main(["sign", str(folder), "--key", public]) == 2
    shown = capsys.readouterr()
    assert "4 files, signed by key " in shown.out
    assert "holds no public key" in shown.err
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_an_encrypted_key_asks_for_its_password(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The password of a private key comes from the environment or the terminal, never from the command line."""
    path = write_key(tmp_path / "locked.key", ec.generate_private_key(ec.SECP256R1()), b"open sesame")
    monkeypatch.delenv("BATCHPROOF_KEY_PASSWORD", raising=False)
    assert main(["sign", str(folder), "--key", str(path)]) == 2
    assert "is encrypted: set BATCHPROOF_KEY_PASSWORD" in capsys.readouterr().err
    monkeypatch.setenv("BATCHPROOF_KEY_PASSWORD", "wrong")
    assert main(["sign", str(folder), "--key", str(path)]) == 2
    monkeypatch.setenv("BATCHPROOF_KEY_PASSWORD", "open sesame")
    assert main(["sign", str(folder), "--key", str(path)]) == 0


def test_nobody_vouches_for_a_broken_bundle(folder: Path, key: Path) -> None:
    """`sign` reads a bundle as the service does, and signs none that it would refuse."""
    (folder / "golden.json").write_bytes(b"{}")
    with pytest.raises(BundleError, match=r"golden\.json"):
        signed(folder, key)
    assert not (folder / SIGNATURE_FILE).exists()


def test_statements_read_back(sound: Path) -> None:
    """What is encoded is decoded: names and digests, sorted."""
    digests = {"b": "00" * 32, "a": "11" * 32}
    assert statement.decode(statement.encode("flowers", digests)).digests == digests


def test_cryptography_loads_late() -> None:
    """Reading bundles without signatures loads no cryptography."""
    code = "import sys, batchproof.service.bundle.reader, batchproof.service.bundle.signing.trust; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert not [name for name in loaded if name.startswith("cryptography")]


def test_a_purpose_of_signing_code_is_enough(folder: Path, authority: Authority) -> None:
    """A certificate may sign where its purpose is signing code, whatever else its key is for."""
    trust = trust_policy("require", root_files=[authority.file])
    signed(folder, *authority.certify("ada", signing=False, code=True))
    assert reader.read(folder, trust=trust).signer == "CN=ada"


def test_a_certificate_of_another_kind_of_key_is_refused(folder: Path, authority: Authority) -> None:
    """A trusted certificate whose key is not of one of the three curves counts for nothing."""
    trust = trust_policy("require", root_files=[authority.file])
    signed(folder, *authority.certify("ada"))
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (other,) = keys.read_certificates(authority.certify("bob", key=rsa_key)[1])
    sealed = envelope.decode((folder / SIGNATURE_FILE).read_bytes())
    exchanged = envelope.Envelope(sealed.payload, sealed.signature, certificates=[keys.der(other)])
    (folder / SIGNATURE_FILE).write_bytes(envelope.encode(exchanged))

    assert "must have a key of the curve P-256, P-384 or P-521" in refusal(folder, trust)


def test_a_bundle_that_changes_while_it_is_signed_is_refused(
    folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is added, or a bundle.json that is exchanged, between the check and the signature ends without one."""
    sound = signer.reader.read

    def adding(path: Path) -> Bundle:
        bundle = sound(path)
        (path / "notes.txt").write_text("hello")
        return bundle

    def exchanging(path: Path) -> Bundle:
        bundle = sound(path)
        reseal(path, lambda content: content["metrics"].update(rows=7))
        return bundle

    for change in (exchanging, adding):
        monkeypatch.setattr(signer.reader, "read", change)
        with pytest.raises(BundleError, match="changed while it was signed"):
            signed(folder, key)
        assert not (folder / SIGNATURE_FILE).exists()
