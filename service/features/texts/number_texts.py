"""Texts to numbers: decimal digits, hexadecimal digits, and what a rule says of separators and units."""

import re
from functools import cache

from batchproof.service.bundle.signature import TextRule

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
HEXADECIMAL = re.compile(r"[+-]?0[xX][0-9a-fA-F]{1,16}")  # up to 64 bits; longer ones are names, such as checksums
# Python reads no dotless i: with re.ASCII, re.IGNORECASE adds no letters of other scripts.
INFINITY = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE | re.ASCII)
NAN = re.compile(r"[+-]?nan(?:\([^()]*\))?", re.IGNORECASE)  # some compilers add a payload: nan(ind)
BLANKS = str.maketrans({"\u00a0": " ", "\u202f": " "})  # the blanks that do not break a line


def parse_number(text: str, rule: TextRule) -> float | None:
    """Return the number, infinities included, that a text without blanks around it means; None if it is not a number."""
    number = _plain(text) if rule.decimal == "." else None
    if number is None and (rule.affixes or rule.thousands or rule.decimal == ","):
        bare = _without_affixes(text, rule.affixes)
        return None if bare is None else _plain(_normal(bare, rule))
    return number


def _plain(text: str) -> float | None:
    if NUMBER.fullmatch(text):
        return float(text)
    if HEXADECIMAL.fullmatch(text):
        return float(int(text, 16))
    return float(text) if INFINITY.fullmatch(text) else None


def _without_affixes(text: str, affixes: tuple[str, ...]) -> str | None:
    """Return the number without the affixes around it, its sign first: `-$5` and `$-5` are both `-5`."""
    sign, rest = (text[0], text[1:].lstrip()) if text.startswith(("-", "+")) else ("", text)
    for affix in affixes:
        rest = rest.removeprefix(affix).lstrip().removesuffix(affix).rstrip()
    return None if sign and rest.startswith(("-", "+")) else sign + rest


def _normal(text: str, rule: TextRule) -> str:
    """Return the number with a decimal point and without separators; a text whose groups are wrong becomes no number."""
    whole, point, fraction = text.partition(rule.decimal)
    if rule.thousands == " ":
        whole = whole.translate(BLANKS)
    if rule.thousands and rule.thousands in whole:
        if not _grouped(rule.thousands).fullmatch(whole):
            return ""
        whole = whole.replace(rule.thousands, "")
    return f"{whole}{'.' if point else ''}{fraction}" if "." not in whole + fraction or rule.decimal == "." else ""


@cache
def _grouped(separator: str) -> re.Pattern[str]:
    """Return the pattern of digits in groups, of which all but the first have three: `1,234,567`, not `12,34` or `1,2e3`."""
    return re.compile(rf"[+-]?[0-9]{{1,3}}(?:{re.escape(separator)}[0-9]{{3}})+")
