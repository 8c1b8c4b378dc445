"""Calibration by group: predictions and observations for each category of the most important categorical features."""

import numpy as np

from batchproof.service.bundle.signature import class_text
from batchproof.training.report import markup
from batchproof.training.report.charts import category_points
from batchproof.training.report.charts.scale import number, percent
from batchproof.training.report.charts.svg import Axes
from batchproof.training.report.facts import Facts
from batchproof.training.report.measures.groups import LEAST_ROWS, LEVEL, Group, Grouped
from batchproof.training.report.measures.reliability import PREDICTED, SECOND

NAMES = ("predicted", "observed")


def section(facts: Facts) -> str:
    """Return the section; nothing where no categorical feature has two groups of enough rows."""
    if not facts.groups:
        return ""
    several = facts.signature.targets is not None
    off = [
        f"{one.feature} = {group.label}{f' ({one.what})' if several else ''}"
        for one in facts.groups
        for group in one.groups
        if group.is_off
    ]
    verdict = (
        markup.warning(f"Predictions of these groups are off by more than chance explains: {', '.join(off)}.")
        if off
        else markup.paragraph("No group is off by more than chance explains.")
    )
    return markup.section(
        "groups",
        "Calibration by group",
        markup.paragraph(_introduction(facts)),
        verdict,
        markup.pair(*(part for one in facts.groups for part in _figures(facts, one))),
    )


def _introduction(facts: Facts) -> str:
    return (
        f"The {facts.evaluation_part} rows by the categories of the most important categorical features: {_meaning(facts)}. "
        f"A group with fewer than {LEAST_ROWS} rows is left out. The intervals of what was observed hold for all groups of a feature together with {percent(LEVEL, 0)}."
    )


def _meaning(facts: Facts) -> str:
    what = facts.groups[0].what if facts.signature.targets is None else "value of each target"
    if what == PREDICTED:
        return "the mean probability of the predicted class, and the share of rows for which it was the true one"
    if what == SECOND:
        label = class_text((facts.signature.classes or ())[1])
        return f"the mean predicted probability of {label}, and the share of rows that are {label}"
    return f"the mean predicted {what}, and the mean of the true values"


def _figures(facts: Facts, grouped: Grouped) -> tuple[str, str]:
    is_share = facts.signature.classes is not None
    values = np.array([(group.stated, group.observed) for group in grouped.groups])
    worst = max(grouped.groups, key=lambda group: abs(group.stated - group.observed))
    shown = percent if is_share else number
    said = f"largest difference: {worst.label}, predicted {shown(worst.stated)}, observed {shown(worst.observed)}"
    named = f"{grouped.what}: calibration" if facts.signature.targets is not None else "Calibration"
    axes = Axes(
        f"{named} by {grouped.feature}", said, "mean probability, share of rows" if is_share else grouped.what, ""
    )
    drawing = category_points.points(axes, [group.label for group in grouped.groups], values, NAMES)
    more = (
        f" {grouped.omitted} smaller {'group is' if grouped.omitted == 1 else 'groups are'} left out."
        if grouped.omitted
        else ""
    )
    rows = [_row(group, is_share=is_share) for group in grouped.groups]
    table = markup.table((grouped.feature, "rows", *NAMES), rows, numbers=(1, 2, 3))
    return (
        markup.figure(f"{named} by {grouped.feature}", drawing, f"{said[:1].upper()}{said[1:]}.{more}"),
        markup.figure(f"{f'{grouped.what} by ' if named != 'Calibration' else ''}{grouped.feature} as numbers", table),
    )


def _row(group: Group, *, is_share: bool) -> tuple[object, ...]:
    shown = percent if is_share else number
    verdict = ' <span class="bad">off</span>' if group.is_off else ""
    interval = f'<br><span class="range">{shown(group.low)} to {shown(group.high)}</span>'
    return (
        group.label,
        f"{group.rows:,}",
        markup.Html(f"{shown(group.stated)}{verdict}"),
        markup.Html(f"{shown(group.observed)}{interval}"),
    )
