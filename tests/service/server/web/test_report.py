"""The report's page: sent as it was verified, drawn by its own style alone, refused where it was changed."""

import asyncio
import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app


@pytest.fixture
def service(tmp_path: Path, penguins_bundle: Path) -> Iterator[app.App]:
    """Serve a copy of the committed model."""
    shutil.copytree(penguins_bundle, tmp_path / "penguins" / penguins_bundle.name)
    loaded = app.load(Settings(models=tmp_path))
    yield loaded
    loaded.close()


def get(service: app.App, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(AsgiApp(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_the_report_is_sent_under_a_policy_of_its_own(service: app.App, penguins_bundle: Path) -> None:
    """The bytes are the bundle's; browsers may apply the style whose hash is told, and run or fetch nothing."""
    for path in ("/models/penguins/report", f"/models/penguins/versions/{penguins_bundle.name}/report"):
        page = get(service, path)
        assert page.status_code == 200
        assert page.content == (penguins_bundle / "report.html").read_bytes()
        assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "sandbox" in policy


def test_a_changed_report_is_not_sent(service: app.App, tmp_path: Path, penguins_bundle: Path) -> None:
    """A file that is not the one whose checksum was verified is refused by name."""
    path = tmp_path / "penguins" / penguins_bundle.name / "report.html"
    path.write_bytes(path.read_bytes().replace(b"penguins", b"pinguins", 1))
    page = get(service, "/models/penguins/report")

    assert page.status_code == 503
    assert page.json()["error"]["code"] == "report_changed"
    assert "report.html has SHA-256" in page.json()["error"]["message"]


def test_no_such_model_or_version(service: app.App) -> None:
    """An unknown model gets the nearest name, an unknown version what is served."""
    assert "did you mean 'penguins'" in get(service, "/models/pengins/report").json()["error"]["message"].lower()
    assert get(service, "/models/penguins/versions/99/report").json()["error"]["code"] == "unknown_version"
