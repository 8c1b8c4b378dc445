"""Sentences that stand behind a prefix and a colon."""

import re

ORDINARY = re.compile(r"[A-Z](?=[a-z]*[ ,])")  # JSON, UTF-8 and Content-Type keep their capitals


def behind(prefix: object, sentence: str) -> str:
    """Return `prefix: sentence`, the sentence of a refusal beginning small; it must not begin with a name of the caller's."""
    first = ORDINARY.match(sentence)
    return f"{prefix}: {first[0].lower() + sentence[1:] if first else sentence}"


def ended(sentence: str) -> str:
    """Return the sentence with one full stop at its end, unless it is a question."""
    return sentence if sentence.endswith("?") else sentence.rstrip(".") + "."
