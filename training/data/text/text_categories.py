"""Columns of texts that are categories: by their value or by their text, with or without blanks around."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from batchproof.service.bundle.signature import Feature, TextRule
from batchproof.service.features.texts.text_cells import WHOLE, reader_of
from batchproof.training.data.column import Column
from batchproof.training.data.text.text_advice import SHOWN, advice
from batchproof.training.data.text.text_options import Reading, TextOptions, Texts, rule_of


def category_reading(texts: Texts) -> Reading:
    """Return categories: whole numbers and booleans by their value where the text says no more, others by their text."""
    stripped = [level.strip() for level in texts.levels]
    if texts.options.is_cells:
        if all(level.lower() in ("true", "false") for level in stripped):
            return Reading("categorical", "boolean", rule_of(texts))
        if all(WHOLE.fullmatch(level) and str(int(level)) == level for level in stripped):
            return Reading("categorical", "integer", rule_of(texts))
    return text_reading(texts)


def text_reading(texts: Texts) -> Reading:
    """Return categories by their text, with what keeps them from being numbers or dates."""
    options = texts.options
    rule = rule_of(texts) if options.is_cells or options.missing or options.strip else None
    stripped = [level.strip() for level in texts.levels]
    has_blanks = [text != level for text, level in zip(stripped, texts.levels, strict=True)]
    if options.is_cells and all(has_blanks):
        return Reading(
            "categorical", "string", options.rule.model_copy(update={"strip": True}), "without blanks around"
        )
    warnings = [] if texts.options.as_text else advice(texts)
    if not options.strip and len(set(stripped)) < len(stripped):
        text = Counter(stripped).most_common(1)[0][0]
        warnings.append(
            f"some values differ only by blanks around them, such as {text[:SHOWN]!r}; --strip reads them as one"
        )
    return Reading("categorical", "string", rule, "", tuple(warnings))


def categories(name: str, places: np.ndarray, levels: list[str], reading: Reading, options: TextOptions) -> Column:
    """Return the column of categories; texts that are one category share a place."""
    feature = Feature(
        name=name,
        kind="categorical",
        value_type=reading.value_type,
        missing=True,
        text_rule=reading.rule,
        categories=(),
    )
    take = reader_of(feature) if options.is_cells else _typed_reader(reading.rule)
    values = [take(level) for level in levels]
    kept = list(dict.fromkeys(value for value in values if value is not None))
    order = {value: place for place, value in enumerate(kept)}
    table = np.asarray([*(-1 if value is None else order[value] for value in values), -1], np.int64)
    return Column(
        name,
        "categorical",
        reading.value_type,
        table.take(places),
        tuple(kept),
        reading.note,
        reading.rule,
        reading.warnings,
    )


def _typed_reader(rule: TextRule | None) -> Callable[[str], str | None]:
    """Return the function from a text of a typed table to its category; only what the rule names is missing."""
    if rule is None:
        return str

    def take(text: str) -> str | None:
        text = text.strip() if rule.strip else text
        return None if text in rule.missing else text

    return take
