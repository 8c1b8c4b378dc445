"""What a release is made of: the same bytes twice, links that lead somewhere, and recipes that name what pyproject.toml does."""

import gzip
import importlib.util
import io
import re
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from batchproof import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = {"prometheus-client": "prometheus_client"}  # names that conda's packages have


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Load constraints/release.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("release", ROOT / "constraints" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(names: list[str], time_s: int, mode: int, user: int) -> bytes:
    """Return a .tar.gz as some builder would write it."""
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", mtime=time_s) as packed, tarfile.open(fileobj=packed, mode="w") as files:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode, member.uid, member.uname = 4, time_s, mode, user, f"user{user}"
            files.addfile(member, io.BytesIO(b"text"))
    return raw.getvalue()


def test_an_archive_names_no_builder(script: ModuleType) -> None:
    """Order, times, owners and masks of the builder leave no trace; contents and executable files stay."""
    first = archive(["a/b.py", "a/c.py"], 1_700_000_000, 0o644, 1000)
    second = archive(["a/c.py", "a/b.py"], 1_800_000_000, 0o600, 0)
    assert first != second
    assert script.normalised(first, 7) == script.normalised(second, 7)
    with tarfile.open(fileobj=io.BytesIO(script.normalised(archive(["x"], 1, 0o700, 5), 7))) as files:
        (member,) = files
        assert (member.mode, member.mtime, member.uname) == (0o755, 7, "")
        content = files.extractfile(member)
        assert content is not None
        assert content.read() == b"text"


def test_links_lead_to_the_repository(script: ModuleType, tmp_path: Path) -> None:
    """With an address, every relative link of the description leads there at this version, and the metadata name pages."""
    (tmp_path / "batchproof").mkdir()
    for name in ("pyproject.toml", "README.md", "batchproof/__init__.py"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    script.link(tmp_path, "https://git.example/batchproof")
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["urls"]

    assert urls["Source"] == f"https://git.example/batchproof/tree/v{__version__}"
    links = re.findall(r"\]\(([^)#]+)", (tmp_path / "README.md").read_text())
    assert all(link.startswith(("https://", "http://")) for link in links)
    pages = [link for link in [*links, *urls.values()] if "/blob/" in link]
    for page in pages:
        assert (ROOT / page.partition(f"/v{__version__}/")[2]).exists(), page


def test_the_recipe_names_the_dependencies() -> None:
    """The conda recipe has the version, the commands and the dependencies of pyproject.toml, with an engine."""
    recipe = yaml.safe_load((ROOT / "deploy" / "conda" / "recipe.yaml").read_text())
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cpu"], f"python{PROJECT['requires-python']}"]
    plain = [re.sub(r"^([\w.-]+?)(>=[\w.]+).*$", r"\1 \2", line) for line in wanted]
    commands = [f"{name} = {place}" for name, place in PROJECT["scripts"].items()]

    assert recipe["context"]["version"] == __version__
    assert sorted(recipe["requirements"]["run"]) == sorted(
        " ".join([CONDA.get(line.split()[0], line.split()[0]), line.split()[1]]) for line in plain
    )
    assert recipe["build"]["python"]["entry_points"] == commands


def test_the_changelog_has_the_version() -> None:
    """The newest section of the changelog is that of the version, with its date or as unreleased."""
    heading = re.search(
        r"^## (\S+) \((unreleased|\d{4}-\d{2}-\d{2})\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert heading is not None
    assert heading[1] == __version__


def test_a_release_does_not_fetch_cuda_unasked(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pip would bring PyTorch's CUDA build, the training step ends before anything of it is installed."""
    asked: list[str] = []

    def refuses(python: str, pins: str) -> int:
        asked.append(pins)
        return 2

    monkeypatch.setattr(script, "torch", refuses)
    with pytest.raises(script.ReleaseError, match="WITHOUT_TRAINING=1"):
        script.check_installed(tmp_path / "batchproof-1-py3-none-any.whl", ["cpu", "training"])
    assert asked == [str(ROOT / "constraints" / "all.txt")]
