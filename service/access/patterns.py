"""Patterns of names: `*` stands for any text, and every other character for itself.

A certificate holds names of several kinds, and an authority often checks only some of them: it may look hard at a mail
address and let the owner choose the rest of the subject. So a pattern counts for names of its own kind only, and
`*@example.org` is about mail addresses, whatever a subject says.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Kind = Literal["host", "mail", "uri", "subject"]


class CertifiedName(NamedTuple):
    """One name in a certificate; of kind `subject` it reads CN=value, or is the subject as a whole."""

    kind: Kind
    text: str


def fits(text: str, pattern: str) -> bool:
    """Return whether the text is what the pattern says, in time proportional to their lengths."""
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    *middle, last = others
    if not text.startswith(first):
        return False
    place = len(first)
    for part in middle:
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return len(text) - len(last) >= place and text.endswith(last)


def kind_of(pattern: str) -> Kind:
    """Return which names a pattern is about: `CN=…` a subject, with a colon a URI, with an @ a mail address, else a host."""
    before, equals, _ = pattern.partition("=")
    if equals and ":" not in before and "@" not in before:
        return "subject"
    if ":" in pattern:
        return "uri"
    return "mail" if "@" in pattern else "host"


def certifies(names: Iterable[CertifiedName], pattern: str) -> bool:
    """Return whether a certificate with these names fits the pattern; `*` fits every certificate."""
    kind = kind_of(pattern)
    return pattern == "*" or any(name.kind == kind and fits(name.text, pattern) for name in names)
