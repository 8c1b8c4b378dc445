"""Calibration by group: categories with enough rows are compared, and a group is off only beyond what chance explains."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle.signature import Feature
from batchproof.service.features.arrays import Arrays
from batchproof.training.report.measures import groups
from batchproof.training.report.measures.importance import Importance

RANKED = (Importance("size", 2.0, 0.0), Importance("town", 1.0, 0.0), Importance("kind", 0.5, 0.0))


def feature(name: str, *categories: str) -> Feature:
    return Feature(name=name, kind="categorical", value_type="string", missing=True, categories=categories)


def table(codes: np.ndarray, truth: np.ndarray, classes: Any) -> Any:
    """Return what is measured of a data set: codes [rows, 2] of `town` and `kind`, and the true values."""
    features = (feature("town", "Delft", "Gouda"), feature("kind", "a"))
    return SimpleNamespace(
        evaluation_part="test",
        arrays={"test": Arrays(None, codes)},
        signature=SimpleNamespace(categorical=features),
        target=SimpleNamespace(names=("price",), classes=classes),
        y=lambda part: truth if part == "test" else None,
    )


def towns(*counts: int) -> np.ndarray:
    """Return codes of rows: so many of each town, then of missing and of unseen ones; `kind` is always `a`."""
    town = np.repeat(np.arange(len(counts)), counts)
    return np.stack([town, np.zeros_like(town)], axis=1)


def test_a_group_that_is_off_is_told_from_one_that_fits() -> None:
    """Delft is predicted at 0.5 and happens half of the time, Gouda is predicted at 0.5 and happens always."""
    truth = np.array([0, 1] * 50 + [1] * 60)
    half = np.full((160, 2), 0.5, np.float32)
    (found,) = groups.of(table(towns(100, 60), truth, ("no", "yes")), {"probabilities": half}, RANKED)
    delft, gouda = found.groups
    assert (found.feature, found.what, found.omitted) == ("town", groups.SECOND, 0)
    assert (delft.label, delft.rows, delft.stated, delft.observed, delft.is_off) == ("Delft", 100, 0.5, 0.5, False)
    assert (gouda.label, gouda.rows, gouda.observed, gouda.is_off) == ("Gouda", 60, 1.0, True)
    assert 0.9 < gouda.low < gouda.high <= 1.0


def test_few_rows_are_no_group_and_missing_ones_are() -> None:
    """Categories of fewer than 20 rows are left out and counted; missing and unseen values are groups of their own."""
    codes = towns(19, 30, 25, 21)
    scores = np.full((95, 2), 0.5, np.float32)
    (found,) = groups.of(table(codes, np.zeros(95, int), ("no", "yes")), {"probabilities": scores}, RANKED)
    assert [(one.label, one.rows) for one in found.groups] == [("Gouda", 30), ("missing", 25), ("unseen", 21)]
    assert found.omitted == 1


def test_of_several_classes_the_predicted_one_is_compared() -> None:
    """What is compared is the probability of the most probable class with the share of rows whose class it is."""
    scores = np.tile(np.array([[0.2, 0.7, 0.1]], np.float32), (80, 1))
    truth = np.array([1, 1, 1, 0] * 20)
    (found,) = groups.of(table(towns(40, 40), truth, ("a", "b", "c")), {"probabilities": scores}, RANKED)
    assert found.what == groups.PREDICTED
    assert [one.observed for one in found.groups] == [0.75, 0.75]
    assert [one.stated for one in found.groups] == pytest.approx([0.7, 0.7])
    assert not any(one.is_off for one in found.groups)


def test_values_are_compared_by_their_means() -> None:
    """Of a regression the mean prediction of a group is compared with the mean of its true values."""
    truth = np.tile([90.0, 110.0], 40)
    values = np.concatenate([np.full((40, 1), 100.0), np.full((40, 1), 120.0)])
    (found,) = groups.of(table(towns(40, 40), truth, None), {"value": values}, RANKED)
    assert found.what == "price"
    assert [(one.stated, one.observed, one.is_off) for one in found.groups] == [
        (100.0, 100.0, False),
        (120.0, 100.0, True),
    ]


def test_chance_alone_marks_hardly_any_group() -> None:
    """Of 400 tables whose predictions are the true probabilities, at most one in twenty has a feature with a group that is off."""
    random, off = np.random.default_rng(5), 0
    for _ in range(400):
        share = random.uniform(0.1, 0.9, 120)
        truth = (random.uniform(size=120) < share).astype(int)
        scores = np.stack([1 - share, share], axis=1)
        (found,) = groups.of(table(towns(40, 40, 40), truth, ("no", "yes")), {"probabilities": scores}, RANKED)
        off += any(one.is_off for one in found.groups)
    assert off <= 20


def test_numbers_only_have_no_groups() -> None:
    """A table without categories, or with a single one, has nothing to compare."""
    scores = {"probabilities": np.full((80, 2), 0.5)}
    assert groups.of(table(towns(80), np.zeros(80, int), ("no", "yes")), scores, RANKED) == ()
    bare = table(towns(80), np.zeros(80, int), ("no", "yes"))
    bare.arrays["test"] = Arrays(np.zeros((80, 1)), None)
    assert groups.of(bare, scores, RANKED) == ()
