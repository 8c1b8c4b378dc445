"""A service that requires signatures."""

import shutil
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from batchproof.service.bundle import signer
from batchproof.service.configuration.settings import Settings
from batchproof.service.server.loading import loading
from batchproof.service.server.serving import app
from tests.bundles import make_bundle, reseal
from tests.live import live


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """Make models/: `good` is signed with the key returned, `unsigned` is not, `lying` was changed after."""
    key = ec.generate_private_key(ec.SECP256R1())
    models = tmp_path / "models"
    for name in ("good", "lying", "unsigned"):
        folder = make_bundle(models, name)
        if name != "unsigned":
            signer.sign(folder, key)
    reseal(models / "lying" / "1", lambda content: content["signature"]["classes"].reverse())
    path = tmp_path / "signer.pub"
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, kind))
    return path


def test_only_signed_models_are_served(tmp_path: Path, public: Path) -> None:
    """A service that requires signatures serves what trusted signers signed, refuses the rest by name, and says who signed."""
    flags = ["--signatures", "require", "--trusted-keys", str(public), "--default-model", "good"]
    with live(tmp_path / "models", *flags) as server:
        listed = httpx.get(f"{server.url}/models").json()
        refused = httpx.post(f"{server.url}/models/lying/predict", json={"rows": [[]]})

    assert [model["name"] for model in listed["models"]] == ["good"]
    assert listed["models"][0]["fingerprint"]["signer"].startswith("key ")
    assert {one["name"]: one["message"].split(":")[0] for one in listed["refused"]} == {
        "lying": listed["refused"][0]["message"].split(":")[0],
        "unsigned": "the bundle is not signed",
    }
    assert "lying version 1 was refused: bundle.json was changed after key" in refused.json()["error"]["message"]


def test_warn_serves_all_and_logs(tmp_path: Path, public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `warn` every bundle is served, and an event says which ones no trusted signer signed."""
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(loading, "event", lambda name, *given, **named: logged.append((name, named.get("model", ""))))
    settings = Settings(models=tmp_path / "models", signatures="warn", trusted_keys=(str(public),))
    service = app.load(settings)
    try:
        assert sorted(service.registry.models) == ["good", "lying", "unsigned"]
    finally:
        service.close()
    assert [model for name, model in logged if name == "unsigned_model"] == ["lying", "unsigned"]


def test_a_signed_bundle_is_served_without_checks(tmp_path: Path, public: Path) -> None:
    """By default a signature is one more file: it changes nothing."""
    shutil.rmtree(tmp_path / "models" / "lying")
    service = app.load(Settings(models=tmp_path / "models"))
    try:
        assert sorted(service.registry.models) == ["good", "unsigned"]
    finally:
        service.close()
