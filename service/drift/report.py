"""One window beside the training rows: for each feature its figures, and which are beyond what chance explains.

A window's figures are many, so their points are set for all of them together: where nothing changed, every figure stays
at or below its threshold in at least 999 of 1 000 windows. Each of the k figures of a model gets a chance of
0.001 / k (Bonferroni's inequality, which holds however figures depend on one another). A model's figures follow from its
bundle, not from the rows, so k is the same in every window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from batchproof.service.bundle.rows.reference import Column, Reference
from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.drift.counts import Layout, WindowCounts
from batchproof.service.drift.statistics import Figure, share, stability

FALSE_ALARMS = 0.001  # windows without change in which any figure passes its threshold, at most
MIN_ROWS = 1000  # fewer rows of a window have no figures
PSI, MISSING, UNSEEN, OUT_OF_RANGE, PREDICTION = KINDS = ("psi", "missing", "unseen", "out_of_range", "prediction")


class Change(NamedTuple):
    """One figure of one feature, or of a prediction, which has its target's name."""

    feature: str
    kind: str
    figure: Figure

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        value, threshold = self.figure
        return {
            "feature": self.feature, "kind": self.kind, "value": value, "threshold": threshold,
            "drift": self.figure.is_drift,
        }  # fmt: skip

    @property
    def excess(self) -> float:
        """How many times its threshold the figure is."""
        return self.figure.value / self.figure.threshold if self.figure.threshold else float(self.figure.value > 0)


@dataclass(frozen=True)
class WindowReport:
    """The figures of one window; none where it has fewer than MIN_ROWS rows."""

    rows: int
    changes: tuple[Change, ...]

    @cached_property
    def drifted(self) -> tuple[Change, ...]:
        """The figures beyond their thresholds, the farthest first."""
        return tuple(sorted((one for one in self.changes if one.figure.is_drift), key=lambda one: -one.excess))

    @property
    def drifted_names(self) -> list[str]:
        """The features that drifted, the farthest first; a target stands for its prediction."""
        return list(dict.fromkeys(one.feature for one in self.drifted))

    def foremost(self, most: int) -> list[Change]:
        """Return at most so many figures: all of them, or those nearest to their thresholds and beyond."""
        if len(self.changes) <= most:
            return list(self.changes)
        return sorted(self.changes, key=lambda one: -one.excess)[:most]

    def as_dict(self, most: int | None = None) -> dict[str, Any]:
        """Return everything for JSON; of the figures at most `most`, the foremost ones."""
        figures = [one.as_dict() for one in (self.changes if most is None else self.foremost(most))]
        return {"rows": self.rows, "min_rows": MIN_ROWS, "drifted": self.drifted_names, "figures": figures}


def assess(layout: Layout, counts: WindowCounts) -> WindowReport:
    """Compare a window's counts with the training rows."""
    if counts.rows < MIN_ROWS:
        return WindowReport(counts.rows, ())
    signature, reference = layout.signature, layout.reference
    alpha = FALSE_ALARMS / max(figure_count(signature, reference), 1)
    changes = [
        change
        for place, feature in enumerate(signature.inputs)
        for change in _feature(layout, counts, place, feature, alpha)
    ]
    # Where nothing was counted, the zip has no prediction to go with a target.
    for target, column, cells in zip(
        signature.target_names, reference.predictions, layout.prediction_places, strict=False
    ):
        if cells is not None and counts.cells[cells].any():
            changes += _changes(target, {PREDICTION: stability(column.counts, counts.cells[cells], alpha)})
    return WindowReport(counts.rows, tuple(changes))


def figure_count(signature: Signature, reference: Reference) -> int:
    """Return how many figures a window of this model may have."""
    of_features = sum(
        len(kinds_of(feature, column)) for feature, column in zip(signature.inputs, reference.features, strict=True)
    )
    return of_features + len(reference.predictions)


def kinds_of(feature: Feature, column: Column | None) -> tuple[str, ...]:
    """Return the kinds of figures that a feature has."""
    if column is None:
        return ()
    missing = (MISSING,) if feature.missing else ()
    if feature.kind == "categorical":
        return (PSI, *missing, UNSEEN)
    return (PSI, *missing, OUT_OF_RANGE) if feature.range is not None else (PSI, *missing)


def _feature(layout: Layout, counts: WindowCounts, place: int, feature: Feature, alpha: float) -> Iterator[Change]:
    column, cells = layout.reference.features[place], layout.places[place]
    if column is None or cells is None:
        return
    window, training = counts.cells[cells], column.counts
    n, m, rare = counts.rows, layout.reference.rows, layout.reference.rare_rows
    n_missing, m_missing = int(window[column.missing_cell]), int(training[column.missing_cell])
    figures: dict[str, Figure | None] = {}
    for kind in kinds_of(feature, column):
        if kind == PSI:
            figures[kind] = stability(_joined(column, training), _joined(column, window), alpha)
        elif kind == MISSING:
            figures[kind] = share(n_missing, n, m_missing, m, alpha)
        elif kind == UNSEEN:
            unseen, clump = column.unseen_cell, rare + 1
            y = -(-int(training[unseen]) // clump)
            figures[kind] = share(int(window[unseen]), n, y, max(m // clump, y + 1), alpha)
        else:
            outside = int(counts.outside[place])
            figures[kind] = share(outside, n - n_missing, 1, max(m - m_missing, 2), alpha)
    yield from _changes(feature.name, figures)


def _joined(column: Column, counts: np.ndarray) -> np.ndarray:
    """Return counts with unseen categories among the others.

    Which of the rare categories are listed is chance: among rows that training did not see, the two cells apart differ more
    than independent rows would. Unseen ones have a figure of their own.
    """
    if column.codes is None:
        return counts
    others, unseen = len(column.codes), column.unseen_cell
    joined = counts[:unseen].copy()
    joined[others] += counts[unseen]
    return joined


def _changes(name: str, figures: dict[str, Figure | None]) -> list[Change]:
    return [Change(name, kind, figure) for kind, figure in figures.items() if figure is not None]
