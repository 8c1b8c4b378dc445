"""The documentation's site: its navigation names every page, and its API page every public name."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import batchproof

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Load docs/site/build.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("build_site", SITE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(entries: list[dict[str, Any]]) -> list[str]:
    """Return the pages of a navigation, in order."""
    pages = []
    for entry in entries:
        for value in entry.values():
            pages += [value] if isinstance(value, str) else named(value)
    return pages


def test_the_navigation_names_every_page(script: ModuleType) -> None:
    """Each page stands in the navigation once, and nothing else does."""
    navigation = named(tomllib.loads((SITE / "zensical.toml").read_text())["project"]["nav"])

    assert sorted(navigation) == sorted(script.sources()), "name the page in docs/site/zensical.toml"


def test_the_api_page_has_every_public_name() -> None:
    """The API page documents each public name of `batchproof` at the place that it is loaded from."""
    documented = set(re.findall(r"^::: (\S+)$", (SITE / "api.md").read_text(), re.MULTILINE))
    homes = {name: getattr(batchproof, name) for name in batchproof.__all__ if name != "__version__"}

    assert {f"{value.__module__}.{name}" for name, value in homes.items()} <= documented


def test_pages_lie_as_in_the_repository(script: ModuleType, tmp_path: Path) -> None:
    """Each relative link of a page leads to a file on the site, as it does in the repository."""
    script.stage(tmp_path)
    pages = list(tmp_path.rglob("*.md"))
    missing = [
        f"{page.name}: {target}"
        for page in pages
        for target in script.LINK.findall(re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))
        if not (page.parent / target).exists()
    ]

    assert len(pages) > 30
    assert missing == []
