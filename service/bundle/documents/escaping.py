"""Texts of a bundle inside YAML and Markdown, so that no name of a file ends a value, a cell or a line."""

import json
import re

from batchproof.service.errors import printable

ACTIVE = re.compile(
    r"[\\`*_\[\]<>|~&$@#]|(?<=:)/|(?<=www)\.|^[-+=]|^\d+(?=[.)](?:\s|$))"
)  # what Markdown reads as markup
PLAIN_CODE = re.compile(r"[^`\\|]*[^`\\|\s][^`\\|]*")
MOST_CHARACTERS = 200  # of a name


def scalar(value: object) -> str:
    """Return a JSON value as YAML on one line, with one meaning in YAML 1.1 and 1.2.

    Texts are always quoted: `no`, `1_000` and `2024-01-01` are texts. Numbers always have a point before an exponent, since
    YAML 1.1 reads 1e-05 as a text.
    """
    if isinstance(value, float):
        mantissa, sign, exponent = repr(value).partition("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}{sign}{exponent}"
    if not isinstance(value, str):
        return json.dumps(value)
    return "".join(c if c.isprintable() else _escape(c) for c in json.dumps(value, ensure_ascii=False))


def block(value: object, depth: int = 0) -> list[str]:
    """Return the lines of a YAML block of objects, lists and scalars, two blanks deeper for each level."""
    indent = "  " * depth
    if isinstance(value, dict):
        lines: list[str] = []
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                lines += [f"{indent}{key}:", *block(inner, depth + 1)]
            else:
                lines.append(f"{indent}{key}: {scalar(inner)}")
        return lines
    if isinstance(value, list):
        lines = []
        for inner in value:
            first, *rest = block(inner, depth + 1)
            lines += [f"{indent}- {first.lstrip()}", *rest]
        return lines
    return [f"{indent}{scalar(value)}"]


def text(words: object) -> str:
    """Return words as Markdown that shows them and nothing else: no markup, no links, no HTML, on one line."""
    return ACTIVE.sub(_escaped, " ".join(printable(str(words)).split()))


def code(name: object) -> str:
    """Return a name as Markdown, as code where that can show it, at most 200 characters of it."""
    shown = printable(str(name))
    shown = shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]}…"
    return f"`{shown}`" if PLAIN_CODE.fullmatch(shown) and shown == shown.strip() else text(shown)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table whose cells are Markdown already."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _escaped(found: re.Match[str]) -> str:
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"  # 1\. begins no list


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08x}"
