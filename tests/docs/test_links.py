"""The project's pages hang together: every link leads somewhere, every page can be reached, the index is an order."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "examples" / "README.md",
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
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link leads to a file, and its anchor to a heading there."""
    found = links(page)

    assert [str(target) for target, _ in found if not target.exists()] == []
    assert [(target.name, anchor) for target, anchor in found if anchor and anchor not in anchors(target)] == []


def test_the_index_has_every_page() -> None:
    """docs/README.md, which the README links, names each page of docs/, and each once."""
    named = [target for target, _ in links(INDEX) if target.suffix == ".md"]

    assert sorted(named) == sorted(page for page in PAGES if page.parent == INDEX.parent and page != INDEX)
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
    """DESIGN.md lists each of its decisions at its head, in the order in which they stand, and each has its date."""
    text = (ROOT / "DESIGN.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    listed = re.findall(r"^  - \[(.+)\]\(#", text, re.MULTILINE)

    assert listed == [heading.partition(": ")[2] for heading in headings], "a new decision needs its line in the list"
    assert [heading for heading in headings if not re.match(r"\d{4}-\d\d-\d\d: ", heading)] == []
