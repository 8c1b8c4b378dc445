"""The project's pages hang together: every link leads somewhere, every page can be reached, the index is an order."""

import re
from pathlib import Path

import pytest

from tests.docs.decision_index import FOLDER as DECISIONS
from tests.docs.decision_index import anchor, decisions, index, subjects

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "examples" / "README.md",
    ROOT / "examples" / "java" / "README.md",
    ROOT / "deploy" / "README.md",
]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INDEX = ROOT / "docs" / "README.md"
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def links(page: Path) -> list[tuple[Path, str]]:
    """Return file and anchor of each relative link."""
    found = LINK.findall(FENCED.sub("", page.read_text()))
    return [((page.parent / target).resolve() if target else page, anchor) for target, anchor in found]


def anchors(page: Path) -> set[str]:
    """Return what a page's headings are linked by: lower case, blanks as hyphens, no other signs."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {anchor(heading) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link leads to a file, and its anchor to a heading there."""
    found = links(page)

    assert [str(target) for target, _ in found if not target.exists()] == []
    assert [(target.name, anchor) for target, anchor in found if anchor and anchor not in anchors(target)] == []


def test_the_index_has_every_page() -> None:
    """docs/README.md, which the README links, names each page of docs/, and each once."""
    named = [target for target, _ in links(INDEX) if target.suffix == ".md" and target.is_relative_to(INDEX.parent)]
    below = [page for page in PAGES if page.parent == INDEX.parent and page != INDEX]

    assert sorted(named) == sorted([*below, DECISIONS / "README.md"])
    assert (INDEX, "") in links(ROOT / "README.md")


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    """The reading of links takes files and anchors, and passes over other sites and code."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading: of *two*\n[a](gone.md) [b](#a-heading-of-two) [c](https://x.org/y)\n```\n[d](e)\n```\n"
    )

    assert links(page) == [(tmp_path / "gone.md", ""), (page, "a-heading-of-two")]
    assert anchors(page) == {"a-heading-of-two"}


def test_the_list_of_decisions_is_whole() -> None:
    """docs/decisions/README.md is what `make decisions` writes from the files beside it, and each decision has its date."""
    undated = [h for path in subjects() for h in decisions(path) if not re.match(r"\d{4}-\d\d-\d\d: ", h)]

    assert undated == []
    assert (DECISIONS / "README.md").read_text() == index(), "run `make decisions`"


def test_design_is_short() -> None:
    """DESIGN.md stays within 8 kB and links the list of decisions."""
    design = ROOT / "DESIGN.md"

    assert len(design.read_bytes()) <= 8_000
    assert (DECISIONS / "README.md", "") in links(design)
