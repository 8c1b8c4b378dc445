"""Numbers that are written with units, separators or words for nothing: the rule that reads them, where it is certain."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from batchproof.service.bundle.signature import TextRule
from batchproof.service.features.texts.number_texts import parse_number

# Words that mean a missing value if all other values of the column are numbers or dates.
WORDS = frozenset(
    {
        *("", "-", "--", "---", "\u2013", "\u2014", ".", "..", "...", "?", "??", "*", "\\n"),
        *("na", "n.a.", "n.a", "n/a", "n\\a", "#n/a", "<na>", "nan", "nat", "nil", "none", "null", "(none)", "(null)"),
        *(
            "<none>",
            "<null>",
            "unknown",
            "unk",
            "missing",
            "void",
            "empty",
            "blank",
            "(blank)",
            "undefined",
            "tbd",
            "tba",
        ),
        *("not available", "not applicable", "not known", "not reported", "no data", "nodata"),
        *("#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!"),
        *("0000-00-00", "0000-00-00 00:00:00", "0000-00-00t00:00:00", "00/00/0000", "00.00.0000"),
    }
)
MOST_STRAYS = 0.1  # share of the distinct values, or of the rows, that may be neither number nor date to warn of it
COMMON_AFFIX = 0.9  # share of the numbers that carry a unit: where fewer do, others may be in another unit
PREFIX = re.compile(r"(?:[A-Z]{0,3}[$€£¥₹₽₩]|(?:USD|EUR|GBP|CHF|JPY)(?=[\s\d.,+-]))")
UNITS = (
    "kg|g|mg|lbs?|oz|t|km|m|cm|mm|mi|miles|ft|in|sqft|sq ft|sqm|m2|m²|ha|acres?|l|ml|h|hrs?|hours?|mins?|minutes?|s|secs?|ms|"
    "days?|weeks?|months?|years?|yrs?|kb|mb|gb|tb|hz|khz|mhz|ghz|kw|kwh|w|v|mah|a|cc|hp|bhp|rpm|mph|km/h|kmh|kmpl|mpg|usd|eur|"
    "gbp|chf|jpy|pts?"
)
SUFFIX = re.compile(rf"\s*(?:%|°[CF]?|[$€£¥₹₽₩]|(?:{UNITS})\b\.?)|\s+[A-Za-z][A-Za-z./²³ ]{{0,15}}", re.IGNORECASE)
SHAPE = re.compile(
    rf"[+-]?\s*(?P<prefix>{PREFIX.pattern})?\s*[+-]?(?P<number>[0-9][0-9.,'  \u00a0\u202f]*)(?P<suffix>.*)", re.DOTALL
)
GROUPS = {  # separator -> numbers that it groups, with a decimal sign behind them or none
    ",": re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?"),
    ".": re.compile(r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+)?"),
    " ": re.compile(r"[1-9][0-9]{0,2}(?:[ \u00a0\u202f][0-9]{3})+(?:[.,][0-9]+)?"),
    "'": re.compile(r"[1-9][0-9]{0,2}(?:'[0-9]{3})+(?:[.,][0-9]+)?"),
}


class Separators(NamedTuple):
    """How numbers are written: two possible ways where the texts do not decide."""

    decimal: str
    thousands: str
    is_certain: bool = True


def stray_words(levels: Iterable[str]) -> bool:
    """Return whether all of the texts are words for a missing value."""
    return all(level.strip().casefold() in WORDS for level in levels)


def number_rule(levels: Sequence[str], base: TextRule) -> tuple[TextRule, bool] | None:
    """Return the rule by which most of the texts are numbers, and whether it is the only one; None where none is.

    The affixes and separators that `base` gives hold.
    """
    shapes = [shape for level in levels if (shape := SHAPE.fullmatch(level.strip()))]
    if len(shapes) < len(levels) * (1 - MOST_STRAYS) - 1 or not shapes:
        return None
    affixes = _affixes(shapes)
    if affixes is None:
        return None
    separators = _separators([shape["number"].strip() for shape in shapes])
    if base.decimal != "." or base.thousands:
        separators = Separators(base.decimal, base.thousands)
    if separators is None:
        return None
    update = {"affixes": affixes, "decimal": separators.decimal, "thousands": separators.thousands}
    return base.model_copy(update=update), separators.is_certain


def numbers(levels: Sequence[str], rule: TextRule) -> list[float | None]:
    """Return the number of each text, None where it is not one."""
    return [parse_number(level.strip(), rule) for level in levels]


def _affixes(shapes: Sequence[re.Match[str]]) -> tuple[str, ...] | None:
    """Return the unit before and the unit after the numbers; None where numbers have other units, or a few have one."""
    affixes: list[str] = []
    for place in ("prefix", "suffix"):
        texts = [(shape[place] or "").strip() for shape in shapes]
        units = {text for text in texts if text}
        if len(units) > 1 or (units and sum(map(bool, texts)) < COMMON_AFFIX * len(texts)):
            return None
        affixes += units
    suffix = next(((shape["suffix"] or "").rstrip() for shape in shapes if (shape["suffix"] or "").strip()), "")
    return tuple(affixes) if not suffix or SUFFIX.fullmatch(suffix) else None


def _separators(texts: Sequence[str]) -> Separators | None:
    """Return the separators by which all of the texts are numbers; None where there are none."""
    fits = [Separators(decimal, thousands) for decimal, thousands in WAYS if _all_fit(texts, decimal, thousands)]
    if not fits:
        return None
    return fits[0] if len(fits) == 1 or fits[0] == Separators(".", "") else fits[0]._replace(is_certain=False)


WAYS = ((".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"))


def _all_fit(texts: Sequence[str], decimal: str, thousands: str) -> bool:
    """Whether every text is a number so, and the separator is needed: a simpler way comes first."""
    rule = TextRule.model_validate({"decimal": decimal, "thousands": thousands})
    if any(parse_number(text, rule) is None for text in texts):
        return False
    grouped = [text for text in texts if thousands and (thousands in text or (thousands == " " and not text.isascii()))]
    if thousands and (not grouped or not all(GROUPS[thousands].fullmatch(text) for text in grouped)):
        return False
    return decimal == "." or any("," in text for text in texts) or thousands == "."
