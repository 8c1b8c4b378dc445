"""Convert a column of texts to typed values, and find the rule by which its texts are read.

Training reads the texts with the same functions as scoring. A rule extends the usual reading. It is detected only if no
other reading is possible, and the user gets a warning.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from batchproof.service.bundle.signature import Feature, Kind, TextRule
from batchproof.service.errors import FeatureError
from batchproof.service.features.columns import encode_cells, encode_column
from batchproof.service.features.texts.number_texts import HEXADECIMAL, parse_number
from batchproof.service.features.texts.text_cells import BOOLEANS, USUAL, WHOLE, has_comma, missing_cells, reader_of
from batchproof.training.data.column import Column, distinct
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.text import date_rules, number_rules
from batchproof.training.data.text.text_advice import SHOWN
from batchproof.training.data.text.text_categories import categories, category_reading, text_reading
from batchproof.training.data.text.text_options import Reading, TextOptions, Texts, flag_text, rule_of

INFINITE = ("inf", "-inf")


def text_column(name: str, arrow: pa.ChunkedArray, wanted: Kind | None, options: TextOptions) -> Column:
    """Return the column of texts, read as `wanted` or as what its texts are.

    Raises TableError where no row has a value, or the texts cannot be read as `wanted`.
    """
    places, levels = distinct(arrow)
    counts = np.bincount(places[places >= 0], minlength=len(levels)).tolist()
    missing = missing_cells(options.rule) if options.is_cells else frozenset(options.missing)
    is_present = [level.strip() not in missing for level in levels]
    present = [place for place, good in enumerate(is_present) if good]
    if not present:
        raise TableError(f"column {name!r} has no value in any row: leave it out with {flag_text('drop', name)}.")
    texts = Texts(name, [levels[place] for place in present], [counts[place] for place in present], options)
    reading = _reading(texts, wanted)
    if reading.kind == "categorical":
        return categories(name, places, levels, reading, options)
    table = np.full(len(levels) + 1, np.nan)  # place -1 is the NaN at the end
    table[present] = reading.values
    if np.isnan(table).all():
        raise TableError(
            f"column {name!r} has no finite value in any row: leave it out with {flag_text('drop', name)}."
        )
    return Column(
        name, reading.kind, reading.value_type, table.take(places), (), reading.note, reading.rule, reading.warnings
    )


def _encoded(feature: Feature, levels: Sequence[str], options: TextOptions) -> np.ndarray:
    """Encode texts as scoring does, [texts] float64; raises FeatureError."""
    if options.is_cells:
        return encode_cells(feature, reader_of(feature), levels)
    return encode_column(feature, levels)


def _reading(texts: Texts, wanted: Kind | None) -> Reading:
    if texts.options.as_text:
        return Reading("categorical", "string", texts.options.rule)
    if wanted == "categorical":
        return category_reading(texts)
    numbers = [] if wanted == "date" else [_plain_numbers, _ruled_numbers]
    dates = [] if wanted == "numeric" else [_iso_dates, _ruled_dates]
    for attempt in (*numbers[:1], *dates[:1], *numbers[1:], *dates[1:]):  # the usual readings come first
        if reading := attempt(texts, wanted):
            return reading
    if wanted is not None:
        raise _unreadable(texts, wanted)
    return text_reading(texts)


def _plain_numbers(texts: Texts, wanted: Kind | None) -> Reading | None:
    """Return numbers, or booleans, that are written as usual; texts of typed tables are numbers only where it is asked."""
    options = texts.options
    if not options.is_cells and wanted is None:
        return None
    stripped = [level.strip() for level in texts.levels]
    if options.is_cells and all(level.lower() in BOOLEANS for level in stripped) and not _all_digits(stripped):
        rule = rule_of(texts)
        values = _values(texts, texts.feature("numeric", "boolean", rule))
        return Reading("numeric", "boolean", rule, values=values)
    chosen = {"decimal": options.decimal or ".", "thousands": options.thousands or ""}
    for separators in (chosen, {}) if options.decimal or options.thousands else ({},):
        infinite = {level for level in stripped if _is_infinite(level)}
        rule = rule_of(texts, **separators, **({"missing": (*options.missing, *INFINITE)} if infinite else {}))
        values = _values(texts, texts.feature("numeric", "float", rule))
        if values is not None:
            return replace(_number_reading(texts, rule, stripped, infinite), values=values)
    return None


def _is_infinite(text: str) -> bool:
    small = text.lower()
    number = parse_number(text, USUAL) if "e" in small or "i" in small else None
    return number is not None and math.isinf(number)


def _number_reading(texts: Texts, rule: TextRule | None, stripped: list[str], infinite: Collection[str]) -> Reading:
    is_whole = all(
        WHOLE.fullmatch(level) or HEXADECIMAL.fullmatch(level) for level in stripped if level not in infinite
    )
    warnings = []
    if infinite:
        rows = sum(count for level, count in zip(stripped, texts.rows, strict=True) if level in infinite)
        warnings.append(f"{rows} infinite values are read as missing; leave such cells empty to have no warning")
    zeros = next((level for level in stripped if len(level) > 1 and level[0] == "0" and level.isdecimal()), None)
    if zeros is not None:
        kept = flag_text("categorical", texts.name)
        warnings.append(
            f"{zeros[:SHOWN]!r} has a leading zero and is read as the number {int(zeros)}; {kept} keeps codes as they are"
        )
    note = f"{rows} infinite values read as missing" if infinite else ""
    return Reading("numeric", "integer" if is_whole and stripped else "float", rule, note, tuple(warnings))


def _iso_dates(texts: Texts, _: Kind | None) -> Reading | None:
    """Return dates in ISO 8601, or in the format that the settings give."""
    options = texts.options
    rule = rule_of(texts, date_format=options.date_format) if options.missing or options.is_cells else None
    if options.date_format is not None:
        rule = options.rule.model_copy(update={"date_format": options.date_format})
    values = _values(texts, texts.feature("date", "date", rule))
    return None if values is None else Reading("date", "date", rule, values=values)


def _ruled_numbers(texts: Texts, wanted: Kind | None) -> Reading | None:
    """Return numbers with units, separators or words for a missing value, where only one reading is possible."""
    options = texts.options
    if not options.is_cells and wanted is None:
        return None
    words = {level for level in texts.levels if number_rules.stray_words([level])}
    others = [level for level in texts.levels if level not in words]
    base = options.rule.model_copy(update={"decimal": options.decimal or ".", "thousands": options.thousands or ""})
    candidate = number_rules.number_rule(others, base) if others else None
    if candidate is None or not (candidate[1] or wanted == "numeric"):
        return None
    rule = candidate[0].model_copy(update={"missing": (*options.missing, *_stripped(words))})
    values = _values(texts, texts.feature("numeric", "float", rule))
    if values is None:
        return None
    return Reading("numeric", "float", rule, _how(rule), (_rule_warning(texts, words, rule, "numbers"),), values)


def _ruled_dates(texts: Texts, _: Kind | None) -> Reading | None:
    """Return dates in another format, or with words for a missing value, where only one reading is possible."""
    options = texts.options
    words = {level for level in texts.levels if number_rules.stray_words([level])}
    others = [level for level in texts.levels if level not in words]
    if not others or not all(any(sign.isdigit() for sign in level) and len(level) <= 60 for level in others):
        return None
    rule = options.rule.model_copy(
        update={"missing": (*options.missing, *_stripped(words)), "date_format": options.date_format}
    )
    values = _values(texts, texts.feature("date", "date", rule))
    if values is None:
        formats = date_rules.fitting_formats(others, 1.0)
        if not formats or not date_rules.are_equal(formats):
            return None
        rule = rule.model_copy(update={"date_format": formats[0][0]})
        values = _values(texts, texts.feature("date", "date", rule))
    return Reading("date", "date", rule, _how(rule), (_rule_warning(texts, words, rule, "dates"),), values)


def _stripped(words: Collection[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in sorted(words)))


def _values(texts: Texts, feature: Feature) -> np.ndarray | None:
    """Return what the texts are as values of the feature, [texts] float64, or None where one of them is not."""
    try:
        return _encoded(feature, texts.levels, texts.options)
    except FeatureError:
        return None


def _how(rule: TextRule) -> str:
    """Return in a few words how texts are read."""
    parts = []
    if rule.affixes:
        parts.append("without " + " and ".join(rule.affixes))
    if rule.decimal == ",":
        parts.append("with decimal commas")
    if rule.thousands:
        parts.append(f"with {rule.thousands!r} between thousands")
    if rule.date_format:
        parts.append(f"as {rule.date_format}")
    if rule.missing:
        shown = ", ".join(repr(text[:SHOWN]) for text in rule.missing[:3])
        parts.append(f"{shown} as missing")
    return "read " + ", ".join(parts) if parts else ""


def _rule_warning(texts: Texts, words: Collection[str], rule: TextRule, what: str) -> str:
    share = texts.share([level not in words for level in texts.levels])
    keep = flag_text("text", texts.name)
    subject = "its values" if share == 1 else f"{share:.1%} of its values"
    return f"{subject} are {what}, {_how(rule)}; {keep} keeps the column as text"


def _all_digits(levels: Sequence[str]) -> bool:
    return all(level.isdecimal() for level in levels)


def _unreadable(texts: Texts, wanted: Kind) -> TableError:
    """Return the refusal of a column that is not what its flag says."""
    kind: Kind = "numeric" if wanted == "numeric" else "date"
    feature = texts.feature(
        kind, "float" if kind == "numeric" else "date", rule_of(texts, date_format=texts.options.date_format)
    )
    for level in texts.levels:
        try:
            _encoded(feature, [level], texts.options)
        except FeatureError as error:
            return _refusal(texts.name, level, wanted, str(error).rpartition(": ")[2])
    raise AssertionError("a column that is read is not refused")


def _refusal(name: str, level: str, wanted: Kind, why: str) -> TableError:
    shown = repr(level[:SHOWN])
    missing = f"{level[:SHOWN]}"
    if wanted == "numeric":
        hint = (
            "--decimal , or --thousands , says what the comma is"
            if has_comma(level)
            else f"--missing {missing!r} reads it as missing"
        )
        return TableError(
            f"column {name!r} holds {shown}, which is not a finite number, but --numeric asks for one: {hint}."
        )
    return TableError(
        f"column {name!r} holds {shown}, which is not an ISO 8601 date: {why}; --date-format says how dates are written."
    )
