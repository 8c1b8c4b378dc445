"""The files of the pages: open to everybody, the same for everybody, cached by their hash, packed, and nothing from elsewhere."""

import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from batchproof.service.configuration.settings import Settings
from batchproof.service.server.web.pages.addresses import PAGES
from batchproof.service.server.web.pages.assets import STATIC, Assets
from tests.bundles import make_bundle
from tests.inside import Inside, serving

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PATHS = ("/", "/models", "/models/flowers", "/models/flowers/versions/1", "/watch", "/docs")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Serve one model to callers with keys."""
    models = tmp_path_factory.mktemp("models")
    make_bundle(models)
    keys = models.parent / "keys.toml"
    keys.write_text(f'[[keys]]\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = ["predict"]\n')
    with serving(Settings(models=models, keys_file=str(keys), root_path="/ml")) as inside:
        yield inside


def get(server: Inside, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", headers={"accept-encoding": "identity", **headers})


@pytest.mark.parametrize("prefix", ["", "/ml"])
@pytest.mark.parametrize("path", PATHS)
def test_a_page_needs_no_key_and_nothing_from_elsewhere(server: Inside, path: str, prefix: str) -> None:
    """A page says nothing about what is served, loads files of this service only, by relative addresses, and may run no other."""
    page = get(server, prefix + path, accept=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "flowers" not in page.text
    assert page.headers["cache-control"] == "no-store"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy
    assert not re.search(r"<script(?! type=\"module\" src=)|<style|\sstyle=|\son[a-z]+=|//[a-z]", page.text.lower())
    files = re.findall(r'(?:src|href)="([^"]*assets/[^"]+)"', page.text)
    assert len(files) >= 3
    for file in files:
        assert get(server, str(httpx.URL(f"http://h{prefix}{path}").join(file).path)).status_code == 200


def test_programs_get_what_they_did_at_the_same_addresses(server: Inside) -> None:
    """Who prefers JSON, or nothing in particular, meets the gate and the description, not the page."""
    for accept in ("application/json", "*/*"):
        for path in ("/models", "/models/flowers"):
            assert get(server, path, accept=accept).status_code == 401
    assert get(server, "/", accept="application/json").status_code == 401


def test_a_file_is_cached_under_its_hash_alone(server: Inside) -> None:
    """Under the present hash a browser keeps it for ever; under that of another release it gets the present file, uncached."""
    (address,) = re.findall(r'href="\./(assets/[0-9a-f]+)/shared/style.css"', get(server, "/", accept=BROWSER).text)
    file, other = (get(server, f"/{folder}/shared/style.css") for folder in (address, "assets/0123456789abcdef"))
    assert file.headers.get_list("cache-control") == ["public, max-age=31536000, immutable"]
    assert other.headers.get_list("cache-control") == ["no-store"]
    assert file.content == other.content == (STATIC / "shared" / "style.css").read_bytes()
    packed = get(server, f"/{address}/shared/style.css", **{"accept-encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == file.content, "httpx unpacks it"
    assert int(packed.headers["content-length"]) < len(file.content) / 2
    assert all(one.headers["x-content-type-options"] == "nosniff" for one in (file, packed))


@pytest.mark.parametrize(
    "path", ["shared/nothing.js", "../../site.py", "%2e%2e/%2e%2e/site.py", "layout.html", "vendor/README.md", "", "/"]
)
def test_nothing_else_is_sent(server: Inside, path: str) -> None:
    """Only scripts, styles and pictures that stand in the folder have addresses."""
    answer = get(server, f"/assets/{Assets().digest}/{path}")
    assert answer.status_code in (401, 404)
    assert "import" not in answer.text


def test_the_hash_is_that_of_every_file(tmp_path: Path) -> None:
    """A changed byte or a changed name in any file gives every file a new address."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "page.js").write_text("one")
    first = Assets(tmp_path).digest
    (tmp_path / "a" / "page.js").write_text("two")
    second = Assets(tmp_path).digest
    (tmp_path / "a" / "page.js").rename(tmp_path / "a" / "other.js")
    assert len({first, second, Assets(tmp_path).digest}) == 3


def test_packed_files_are_the_same_in_every_process() -> None:
    """No time of packing is in them."""
    one, other = (Assets().file("", "shared/style.css", b"gzip") for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.body == other.body
    assert gzip.decompress(one.body) == (STATIC / "shared" / "style.css").read_bytes()


def test_the_engine_is_stored_packed_and_compiled_by_one_page() -> None:
    """Its WebAssembly is sent as it is stored, or unpacked; only the page that runs it has a policy that lets it compile."""
    name = "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm"
    packed, plain = Assets().file("", name, b"gzip"), Assets().file("", name, None)
    assert packed is not None
    assert plain is not None
    assert (b"content-encoding", b"gzip") in packed.headers
    assert (b"content-type", b"application/wasm") in packed.headers
    assert gzip.decompress(packed.body) == plain.body
    assert plain.body.startswith(b"\0asm")
    for page in PAGES:
        policy = dict(Assets().page(page, "/").headers)[b"content-security-policy"]
        assert (b"script-src 'self' 'wasm-unsafe-eval';" in policy) == (page.folder == "try")
        assert b"'unsafe-eval'" not in policy


def test_every_page_has_a_folder_and_its_script() -> None:
    """Each entry of the table has a folder with page.js, and each folder with page.js an entry."""
    assert {page.folder for page in PAGES} == {path.parent.name for path in STATIC.glob("*/page.js")}


def test_pages_may_be_closed(tmp_path: Path) -> None:
    """Without pages, their addresses answer to programs only, and their files are not there."""
    make_bundle(tmp_path)
    with serving(Settings(models=tmp_path, pages=False)) as inside:
        assert get(inside, "/", accept=BROWSER).json() == {"status": "alive"}
        assert get(inside, "/models", accept=BROWSER).json()["models"][0]["name"] == "flowers"
        for path in ("/docs", "/watch", f"/assets/{Assets().digest}/shared/style.css"):
            assert get(inside, path, accept=BROWSER).status_code == 404


def test_vendored_files_are_the_ones_in_the_list() -> None:
    """Each file from elsewhere has a line with its SHA-256, its version, its source and its licence, which stands beside it."""
    vendor = STATIC / "vendor"
    lines = re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|", (vendor / "README.md").read_text(), re.MULTILINE)
    kept = {
        path.relative_to(vendor).as_posix()
        for path in vendor.rglob("*.*")
        if path.suffix in (".js", ".mjs", ".css", ".gz")
    }
    assert {name for name, _ in lines} == kept
    for name, sha256 in lines:
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == sha256, name
        assert (vendor / name).parent.joinpath("LICENSE").is_file()
