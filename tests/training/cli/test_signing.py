"""`batchproof-train --sign`: the finished bundle is signed, or one sentence says why it is not."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from batchproof.service.bundle import reader, signer
from batchproof.service.bundle.signing import SIGNATURE_FILE
from batchproof.service.bundle.signing.trust import trust_policy
from batchproof.service.errors import BundleError
from batchproof.training.__main__ import main
from tests.service.bundle.signing.test_signing import Authority, write_key, write_public

TABLE = "x,w,y\n" + "".join(f"{row * 7 % 23},{'ab'[row % 2]},{row % 2}\n" for row in range(40))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private = ec.generate_private_key(ec.SECP256R1())
    write_public(tmp_path / "signer.pub", private)
    return write_key(tmp_path / "signer.key", private, b"secret")


def train(folder: Path, *flags: str) -> int:
    (folder / "t.csv").write_text(TABLE)
    quick = ("--epochs", "1", "--ensemble", "1", "--widths", "4", "--quiet", "--models", str(folder / "models"))
    return main([str(folder / "t.csv"), "--target", "y", *quick, *flags])


def test_the_finished_bundle_is_signed(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundle has a signature of the key, whose password came from the environment, and does not name the key's file."""
    monkeypatch.setenv("BATCHPROOF_KEY_PASSWORD", "secret")
    assert train(tmp_path, "--sign", str(key)) == 0
    folder = tmp_path / "models" / "t" / "1"
    read = reader.read(folder, trust=trust_policy("require", [tmp_path / "signer.pub"]))

    assert read.signer is not None
    assert f"Signed {folder} with the {read.signer}." in capsys.readouterr().out
    assert "signer.key" not in (folder / "bundle.json").read_text()


def test_a_certificate_is_named(tmp_path: Path) -> None:
    """With --sign-certificate the signature counts by the certificate's authority."""
    authority = Authority(tmp_path)
    private, certificate = authority.certify("ada")
    assert train(tmp_path, "--sign", str(private), "--sign-certificate", str(certificate)) == 0
    trust = trust_policy("require", root_files=[authority.file], subjects=["ada@example.org"])
    assert reader.read(tmp_path / "models" / "t" / "1", trust=trust).signer == "CN=ada"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--sign", "absent.key"], "absent.key cannot be read"),
        (["--sign", "{folder}/t.csv"], "holds no private key"),
        (["--sign", "{folder}/signer.key"], "is encrypted: set BATCHPROOF_KEY_PASSWORD"),
        (["--sign-certificate", "a.crt"], "--sign-certificate needs --sign"),
    ],
)
def test_a_wrong_key_is_refused_before_training(
    tmp_path: Path, key: Path, flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that cannot be used ends the command with exit code 2 before anything is trained or written."""
    assert key.exists()
    assert train(tmp_path, *(flag.format(folder=tmp_path) for flag in flags)) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_bundle_that_cannot_be_signed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where signing fails after the training, the bundle is there without a signature, and the exit code is 1."""
    private = write_key(tmp_path / "plain.key", ec.generate_private_key(ec.SECP256R1()))

    def fail(*_: object) -> None:
        raise BundleError("model.sig cannot be written: no space left on device")

    monkeypatch.setattr(signer, "sign", fail)
    assert train(tmp_path, "--sign", str(private)) == 1
    folder = tmp_path / "models" / "t" / "1"
    assert "is written, but is not signed: model.sig cannot be written" in capsys.readouterr().err
    assert reader.read(folder).manifest.name == "t"
    assert not (folder / SIGNATURE_FILE).exists()
