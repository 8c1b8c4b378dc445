"""docs/serve.md lists every code that a refusal can have, under its status."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROW = re.compile(r"^\| (\d{3}) \| ((?:`[a-z_]+`(?:, )?)+) \|", re.MULTILINE)
CODE = re.compile(r"`([a-z_]+)`")
ANY = 0  # stands for a status that is not written beside its code


def told(page: str) -> set[tuple[int, str]]:
    """Return (status, code) of the table of refusals."""
    return {(int(status), code) for status, codes in ROW.findall(page) for code in CODE.findall(codes)}


def raised(service: Path) -> set[tuple[int, str]]:
    """Return (status, code) of every refusal that the service's code makes."""
    sources = [path for path in service.rglob("*.py") if "client" not in path.relative_to(service).parts]
    return {found for path in sources for node in ast.walk(ast.parse(path.read_text())) for found in codes_of(node)}


def codes_of(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield what a node names: ServiceError(status, code, ...), or a mapping with the key `code`."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("ServiceError", "EncodingError")
    ):
        status, code, *_ = node.args
        assert isinstance(code, ast.Constant), f"line {node.lineno}: a code is written out where it is raised"
        yield (status.value if isinstance(status, ast.Constant) else ANY), code.value
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            is_code = isinstance(key, ast.Constant) and key.value == "code"
            if is_code and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield ANY, value.value


def test_every_code_is_on_the_page(root: Path) -> None:
    """No refusal has a code, or a status for it, that the page leaves out, and the page tells of none that is not."""
    page = told((root / "docs" / "serve.md").read_text(encoding="utf-8"))
    source = raised(root / "service")
    known = {code for _, code in page}
    assert len(source) > 30
    assert {one for one in source if one not in page and (one[0] != ANY or one[1] not in known)} == set()
    assert {one for one in page if one not in source and (ANY, one[1]) not in source} == set()
