"""docs/operate.md names what an operator can meet, all of it and nothing else."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operate.md").read_text()


def logged_events() -> set[str]:
    """Return every event name that service/ can log; a state is one of two, and `unforeseen` has a name of its own."""
    names = {"ready", "not_ready", "unforeseen_error"}
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "event":
                first = node.args[0]
                names |= {first.value} if isinstance(first, ast.Constant) else set()
    return names


def test_every_event_is_explained() -> None:
    """The table of events lists each event that the service logs, and no other."""
    table = PAGE[PAGE.index("| event |") :]
    cells = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)

    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == logged_events()
