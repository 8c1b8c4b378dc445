"""The list of decisions, written from the headings of the files in docs/decisions/: `python -m tests.docs.decision_index`."""

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
INDEX = FOLDER / "README.md"
# The order of reading; a file that is not named here comes after these, by name.
ORDER = (
    "ground",
    "bundle",
    "training",
    "invariance",
    "exact",
    "serving",
    "protocols",
    "tables",
    "operation",
    "security",
)
HEAD = """# Decisions

Each decision is a heading with its date; below it stand the reason and, where there is one, the measurement.
To add one, write it at the end of its subject's file and run `make decisions`, which writes this list.
Where it replaces an earlier decision, say so in both.
"""


def subjects() -> list[Path]:
    """Return the files of decisions in the order in which the list has them."""
    rank = {name: place for place, name in enumerate(ORDER)}
    return sorted(
        (path for path in FOLDER.glob("*.md") if path != INDEX),
        key=lambda path: (rank.get(path.stem, len(ORDER)), path.stem),
    )


def anchor(heading: str) -> str:
    """Return what a heading is linked by: lower case, blanks as hyphens, no other signs."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def decisions(path: Path) -> list[str]:
    """Return the second-level headings of a file: `date: title`."""
    return re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)


def index() -> str:
    """Return the text of docs/decisions/README.md."""
    parts = [HEAD]
    for path in subjects():
        title = path.read_text().partition("\n")[0].removeprefix("# ")
        lines = [f"- [{h.partition(': ')[2]}]({path.name}#{anchor(h)})" for h in decisions(path)]
        parts.append("\n".join([f"## [{title}]({path.name})", "", *lines]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    INDEX.write_text(index())
