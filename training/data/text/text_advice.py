"""Columns of text that nearly are numbers or dates: what their owner may do, and with which flag."""

import re
from collections.abc import Sequence
from shlex import quote

from batchproof.training.data.text import date_rules, number_rules
from batchproof.training.data.text.number_rules import MOST_STRAYS
from batchproof.training.data.text.text_options import Texts, flag_text

SHOWN = 40  # characters of a value in a sentence
FEW_VALUES = 20  # distinct texts that are numbers and yet may be codes
SHAPES = (  # of texts with a size or an order, and what to write instead
    (
        re.compile(r"(?:[0-9]{4}[ -]?Q[1-4]|Q[1-4][ -]?[0-9]{4})", re.IGNORECASE),
        "write quarters as dates, 1974-01-01 for 1974Q1",
    ),
    (re.compile(r"[0-9]{4}-?W[0-9]{2}(?:-?[1-7])?", re.IGNORECASE), "write weeks as dates, 2020-01-06 for 2020-W02"),
    (re.compile(r"[0-9]{1,2}[/-][0-9]{2}"), "write months as dates, 1986-01-01 for 1/86"),
    (
        re.compile(r"-?(?:[0-9]+ days? ?,? ?)?[+-]?[0-9]+:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"),
        "write times and durations as numbers, 90 for 0:01:30",
    ),
)
MOST_CHARACTERS = 60  # of a text that may be a date


def advice(texts: Texts) -> list[str]:
    """Return a sentence for each way in which the texts nearly are numbers or dates."""
    if not any(any(sign.isdigit() for sign in level) for level in texts.levels):
        return []
    return _on_dates(texts) or _on_numbers(texts)


def _on_numbers(texts: Texts) -> list[str]:
    words = {level for level in texts.levels if number_rules.stray_words([level])}
    others = [level for level in texts.levels if level not in words]
    candidate = number_rules.number_rule(others, texts.options.rule) if others else None
    if candidate is None:
        return _on_stray_numbers(texts)
    if not candidate[1]:
        example = next(level for level in others if any(sign in level for sign in ",."))
        sentence = (
            "its values are numbers with a separator that may stand for decimals or thousands, such as "
            f"{example[:SHOWN]!r}, and are read as text; --thousands , or --decimal , says which"
        )
        return [sentence]
    numbers = number_rules.numbers(others, candidate[0])
    strays = [level for level, number in zip(others, numbers, strict=True) if number is None]
    if strays:
        return _on_strays(texts, strays, "numbers")
    if len(texts.levels) <= FEW_VALUES:
        return []  # a typed table says that these are texts, and few of them are codes
    numeric = flag_text("numeric", texts.name)
    return (
        []
        if texts.options.is_cells
        else [f"its texts are numbers and are read as categories; {numeric} reads them as numbers"]
    )


def _on_stray_numbers(texts: Texts) -> list[str]:
    """Name the few texts that keep the others from being numbers: those without one, or those with a unit."""
    without = [level for level in texts.levels if number_rules.SHAPE.fullmatch(level.strip()) is None]
    plain = number_rules.numbers(texts.levels, texts.options.rule)
    for strays in (without, [level for level, number in zip(texts.levels, plain, strict=True) if number is None]):
        unread = set(strays)
        others = [level for level in texts.levels if level not in unread]
        candidate = number_rules.number_rule(others, texts.options.rule) if others and strays else None
        if candidate is not None and candidate[1] and None not in number_rules.numbers(others, candidate[0]):
            return _on_strays(texts, strays, "numbers")
    return []


def _on_dates(texts: Texts) -> list[str]:
    if any(len(level) > MOST_CHARACTERS for level in texts.levels):
        return []
    formats = date_rules.fitting_formats(texts.levels, 1 - MOST_STRAYS)
    if len(formats) > 1 and not date_rules.are_equal(formats):
        named = " or as ".join(repr(form) for form, _ in formats)
        example = next(iter(texts.levels))
        sentence = (
            f"its values may be dates as {named}, such as {example[:SHOWN]!r}, and are read as text; "
            f"--date-format {quote(f'{texts.name}={formats[0][0]}')} says which"
        )
        return [sentence]
    if formats:
        strays = [level for level, value in zip(texts.levels, formats[0][1], strict=True) if value is None]
        return _on_strays(texts, strays, "dates") if strays else []
    unsure = date_rules.looks_unsure(texts.levels)
    if unsure is None:
        return []
    setting = quote(f"{texts.name}={unsure}")
    return [
        f"its values may be months, such as {texts.levels[0][:SHOWN]!r}, and are read as text; --date-format {setting} reads them as dates"
    ]


def _on_strays(texts: Texts, strays: Sequence[str], what: str) -> list[str]:
    unread = set(strays)
    share = texts.share([level not in unread for level in texts.levels])
    if len(strays) > MOST_STRAYS * len(texts.levels) and share < 1 - MOST_STRAYS:
        return []
    which = f"{strays[0][:SHOWN]!r} is" if len(strays) == 1 else f"{strays[0][:SHOWN]!r} and {len(strays) - 1} more are"
    remedy = "correct it, or leave such cells empty"
    if strays[0].isprintable() and len(strays[0]) <= SHOWN:  # a shell reads the flag as it is shown
        remedy = f"--missing {quote(strays[0])} reads it as missing"
    return [f"{share:.1%} of its values are {what}; {which} not, so that the column is read as text; {remedy}"]


def shape_hint(levels: Sequence[object]) -> str:
    """Return how values could be used that are neither numbers nor dates although they have a size or an order."""
    texts = [level for level in levels if isinstance(level, str)]
    for pattern, hint in SHAPES:
        if texts and all(pattern.fullmatch(text.strip()) for text in texts):
            return hint
    return ""
