"""docs/serve.md names every way in which the native routes refuse."""

import ast
import re
from pathlib import Path

from service.wire.native import FIELDS

ROOT = Path(__file__).resolve().parents[2]
# Tables and the other protocols have pages and shapes of their own.
ELSEWHERE = ("tables/", "rpc/", "client/", "wire/oip", "wire/scoring", "wire/tensors.py", "wire/npy.py")

ERRORS = ("ServiceError", "EncodingError")


def refusals() -> set[tuple[str, str]]:
    """Return status and code of every error that the service makes for its native routes."""
    found = set()
    for path in (ROOT / "service").rglob("*.py"):
        if path.relative_to(ROOT / "service").as_posix().startswith(ELSEWHERE):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                status, code = node.args[:2]
                if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                    found.add((str(status.value), str(code.value)))
    return found


def test_every_field_is_explained() -> None:
    """The page names each field that a request may have."""
    page = (ROOT / "docs" / "serve.md").read_text()

    assert {name for name in FIELDS if f'"{name}"' not in page} == set()


def test_every_refusal_is_explained() -> None:
    """The table of errors has each code with its status, and no other."""
    page = (ROOT / "docs" / "serve.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", page[page.index("| status |") :], re.MULTILINE)

    assert {(status, code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)} == refusals()
