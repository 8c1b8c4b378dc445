"""What the owner of a table should know before its bundle is used: one sentence a finding, each with what to do."""

import unicodedata
from collections.abc import Sequence

from batchproof.service.bundle.signature import Feature
from batchproof.training.data.column import Column
from batchproof.training.data.schema import RARE, ROW_NAMES, Dropped, Schema
from batchproof.training.data.text.person_names import looks_personal
from batchproof.training.data.text.text_advice import shape_hint
from batchproof.training.data.text.text_options import flag_text

PUBLISHED = "are published in the bundle"


def on_columns(schema: Schema, columns: Sequence[Column]) -> list[str]:
    """Return the warnings on all columns, those that were left out among them."""
    features = {feature.name: feature for feature in schema.signature.inputs}
    dropped = {drop.name: drop for drop in schema.dropped}
    lines = []
    for column in columns:
        lines += [f"column {column.name!r}: {warning}." for warning in column.warnings]
        if column.name in features:
            lines += _on_feature(features[column.name])
        elif column.name in dropped:
            lines += _on_dropped(column, dropped[column.name])
    names = {column.name for column in columns}
    lines += [
        f"column {drop.name!r} is left out: {drop.reason}."
        for drop in schema.dropped
        if drop.name not in names and drop.name and drop.reason != "as requested"
    ]
    if any(not drop.name for drop in schema.dropped):
        lines.append("the column without a name is left out: give it a name in the header to use it.")
    return [*lines, *_on_names(list(features))]


def is_private(line: str) -> bool:
    """Return whether a warning says that names of persons would be published."""
    return PUBLISHED in line


def _on_names(names: Sequence[str]) -> list[str]:
    """Return the warnings on names that nobody can see or tell apart, though callers must send them exactly."""
    lines, alike = [], dict[str, str]()
    for name in names:
        shown = "".join(sign for sign in unicodedata.normalize("NFKC", name) if sign.isprintable()).strip()
        if shown in alike:
            lines.append(f"columns {alike[shown]!r} and {name!r} look alike: callers must send each name exactly so.")
        elif not shown:
            lines.append(f"column {name!r}: nothing of its name can be seen, and callers must send it: rename it.")
        elif not name.isprintable():
            lines.append(f"column {name!r}: its name has signs that are not printed, and callers must send them.")
        alike.setdefault(shown, name)
    return lines


def _on_feature(feature: Feature) -> list[str]:
    what = looks_personal(feature)
    if what is None:
        return []
    drop = flag_text("drop", feature.name)
    return [f"column {feature.name!r}: its categories look like {what} and {PUBLISHED}; {drop} keeps them out."]


def _on_dropped(column: Column, drop: Dropped) -> list[str]:
    if drop.reason.startswith(RARE):
        return [f"column {column.name!r} is left out: {drop.reason}; --rare-rows sets how many rows a category needs."]
    if not drop.reason.startswith(ROW_NAMES):
        return []
    hint = shape_hint(column.levels)
    use = f", {hint} to use it" if hint else ""
    return [f"column {column.name!r} is left out: {drop.reason}; {flag_text('keep', column.name)} keeps it{use}."]
