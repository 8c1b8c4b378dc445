"""The files of a bundle over HTTP: the bytes that were verified, to whoever may read about the model, where it is allowed."""

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchproof.service.access import keys_file
from batchproof.service.bundle.signing import SIGNATURE_FILE
from batchproof.service.configuration.settings import Settings
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from tests.bundles import make_bundle

FILES = ("bundle.json", "model.onnx", "golden.json", "reference.json")
MODEL_FILES = (*FILES[:3], "bundle.zip")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Write one model with statistics of its training rows."""
    make_bundle(tmp_path / "models", reference_rows=100)
    return tmp_path / "models"


@pytest.fixture
def service(models: Path) -> Iterator[app.App]:
    """Serve it on the loopback address, without keys."""
    loaded = app.load(Settings(models=models))
    yield loaded
    loaded.close()


def get(service: app.App, file: str, key: str = "") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(AsgiApp(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"x-api-key": key} if key else {}
            return await client.get(f"/models/flowers/versions/1/bundle/{file}", headers=headers)

    return asyncio.run(ask())


def test_the_files_are_the_bundles(service: app.App, models: Path) -> None:
    """Every file that predicts or draws rows elsewhere is sent as it was verified, and no other."""
    for file in FILES:
        answer = get(service, file)
        assert answer.content == (models / "flowers" / "1" / file).read_bytes()
        assert answer.headers["content-type"] == (
            "application/octet-stream" if file == "model.onnx" else "application/json"
        )
    for file in ("report.html", "weights.safetensors", "nothing", "%2e%2e%2fbundle.json"):
        assert get(service, file).status_code == 404
    assert get(service, "nothing").json()["error"]["message"] == (
        "The files of this bundle that are sent are bundle.json, model.onnx, golden.json, reference.json, bundle.zip."
    )


def test_the_archive_is_a_bundle(service: app.App, models: Path, tmp_path: Path) -> None:
    """Unpacked in another models folder, it is served; the same bundle gives the same archive."""
    answer = get(service, "bundle.zip")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.content == get(service, "bundle.zip").content
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / "elsewhere")
    folder = Path("flowers") / "1"
    kept = {path.name: path.read_bytes() for path in (models / folder).iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "elsewhere" / folder).iterdir()} == kept
    loaded = app.load(Settings(models=tmp_path / "elsewhere"))
    try:
        assert list(loaded.registry.models) == ["flowers"]
    finally:
        loaded.close()


def test_a_signed_bundle_keeps_its_signature(service: app.App, models: Path) -> None:
    """Whoever unpacks the archive can check who signed it."""
    (models / "flowers" / "1" / SIGNATURE_FILE).write_bytes(b"{}")
    with zipfile.ZipFile(io.BytesIO(get(service, "bundle.zip").content)) as archive:
        assert archive.read(f"flowers/1/{SIGNATURE_FILE}") == b"{}"


@pytest.mark.parametrize("file", FILES)
def test_a_changed_file_is_not_sent(service: app.App, models: Path, file: str) -> None:
    """A file that is not the one that was verified is refused by name."""
    path = models / "flowers" / "1" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    answer = get(service, file)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "bundle_changed")
    assert file in answer.json()["error"]["message"]
    whole = get(service, "bundle.zip")
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "bundle_changed")


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, 200),
        ({"share_bundles": "no"}, 403),
        ({"host": "0.0.0.0"}, 403),
        ({"host": "0.0.0.0", "share_bundles": "yes"}, 200),
    ],
)
def test_a_service_without_keys_shares_on_loopback_only(models: Path, settings: dict[str, Any], status: int) -> None:
    """Beyond the loopback address, the operator says so; the statistics, which are no model, are sent in any case."""
    loaded = app.load(Settings(models=models, **settings))
    try:
        for file in MODEL_FILES:
            assert get(loaded, file).status_code == status
        if status == 403:
            assert "share_bundles" in get(loaded, "model.onnx").json()["error"]["message"]
        assert get(loaded, "reference.json").status_code == 200
    finally:
        loaded.close()


@pytest.mark.parametrize("public", [(), ("models",)])
def test_a_key_needs_the_scope_read(models: Path, tmp_path: Path, public: tuple[str, ...]) -> None:
    """A key for predictions does not give the model away, and neither do public descriptions."""
    secrets = {}
    entries = []
    for scope in ("predict", "read"):
        secrets[scope] = keys_file.new_key()
        key = keys_file.Key(name=scope, sha256=keys_file.digest_of(secrets[scope]), scopes=(scope,))
        entries.append(keys_file.entry_text(key))
    (tmp_path / "keys.toml").write_text("\n".join(entries))
    loaded = app.load(Settings(models=models, keys_file=str(tmp_path / "keys.toml"), public=public, host="0.0.0.0"))
    try:
        assert get(loaded, "model.onnx").status_code == 401
        assert get(loaded, "model.onnx", secrets["predict"]).status_code == 403
        assert get(loaded, "model.onnx", secrets["read"]).status_code == 200
    finally:
        loaded.close()


def test_details_list_the_coverages(service: app.App) -> None:
    """A page learns which coverages the model supports: none where its bundle has no thresholds."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(AsgiApp(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/models/flowers")

    detail = json.loads(asyncio.run(ask()).content)
    assert (detail["coverages"], detail["reference"]) == ([], True)
