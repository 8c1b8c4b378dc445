"""Base rates that differ from those of the table move probabilities, and the rows that measure them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import batchproof
from batchproof.training.__main__ import main
from batchproof.training.data.rows.prior import Prior, read_prior, with_shares
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import Target
from batchproof.training.estimators.estimator import BatchNormMLPClassifier, BatchNormMLPRegressor
from tests.training.quick import quick

Y = np.array([0] * 50 + [1] * 30 + [2] * 20)
TARGET = Target("y", "multiclass", Y, ("a", "b", "c"), "")
ALL = np.arange(100)


def prior_of(given: str, weight: np.ndarray | None = None) -> Prior:
    """Return the prior of three classes with the shares 0.5, 0.3 and 0.2."""
    prior = read_prior(TARGET, ALL, given, weight)
    assert prior is not None
    return prior


def test_shares() -> None:
    """Classes that are left out divide the rest as in the training rows, which count by their weight."""
    assert prior_of("c=0.6").shares == pytest.approx([0.25, 0.15, 0.6])
    assert prior_of("a=0.2,b=0.3,c=0.5").shares == pytest.approx([0.2, 0.3, 0.5])
    weighted = prior_of("c=0.6", np.where(Y == 0, 3.0, 1.0))
    assert weighted.shares == pytest.approx([0.4 * 150 / 180, 0.4 * 30 / 180, 0.6])
    assert weighted.shift == pytest.approx(np.log(weighted.shares / np.array([0.75, 0.15, 0.1])))
    assert read_prior(TARGET, ALL, None, None) is None


def test_bayes() -> None:
    """Corrected probabilities are those of Bayes' rule at the new shares: of equal evidence, the shares themselves."""
    prior = prior_of("c=0.6")
    old = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    assert prior.corrected(old) == pytest.approx(np.array([[0.25, 0.15, 0.6], [1.0, 0.0, 0.0]]))


@pytest.mark.parametrize("given", ["c=0.6", "a=0.1,b=0.1", "b=0.3,c=0.2", "a=0.9"])
def test_rows_that_measure_have_the_shares(given: str) -> None:
    """Rows of classes that are too frequent are left out at random, none of the class that is rarest for its share."""
    prior = prior_of(given)
    left = with_shares(prior, Y)
    counts = np.bincount(Y[left], minlength=3)
    assert (np.diff(left) > 0).all()
    assert counts / counts.sum() == pytest.approx(prior.shares, abs=0.5 / counts.sum() + 0.02)
    assert (counts == np.bincount(Y)).any()
    assert with_shares(prior, Y[:0]).tolist() == []
    assert np.bincount(Y[:50][with_shares(prior, Y[:50])]).tolist() == [50]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("d=0.5", "--class-prior names 'd', but the target 'y' has no such class: its classes are 'a', 'b', 'c'."),
        ("a=0", "--class-prior gives 'a' the share '0': use a number above 0."),
        ("a=x", "--class-prior gives 'a' the share 'x': use a number above 0."),
        ("a=0.1,a=0.2", "--class-prior names the class 'a' twice: give it one share."),
        ("a=0.7,b=0.6", "--class-prior gives shares whose sum is 1.3: it must be below 1, or 1 for all classes."),
        ("a=0.5,b=0.5", "--class-prior gives shares whose sum is 1: it must be below 1, or 1 for all classes."),
        ("a=0.2,b=0.2,c=0.2", "--class-prior gives every class a share, and their sum is 0.6: it must be 1."),
    ],
)
def test_shares_that_cannot_be(given: str, sentence: str) -> None:
    """Each fault of the list is refused in one sentence."""
    with pytest.raises(TableError, match=f"^{sentence}$"):
        prior_of(given)


def table(path: Path, rows: int = 600) -> pd.DataFrame:
    """Write a table with two classes of equal share, which overlap."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, rows)
    frame = pd.DataFrame({"a": (random.normal(size=rows) + y).round(4), "y": np.where(y == 1, "fraud", "fine")})
    frame.to_csv(path, index=False)
    return frame


def test_probabilities_are_those_of_the_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shift is in the graph, float32 and exact; metrics, thresholds and calibration have rows of these shares."""
    frame = table(tmp_path / "t.csv")
    flags = [str(tmp_path / "t.csv"), *quick("y", widths=8, epochs=5), "--quiet", "--models", str(tmp_path)]
    assert main([*flags, "--name", "plain"]) == 0
    capsys.readouterr()
    assert main([*flags, "--name", "moved", "--class-prior", "fraud=0.1", "--threshold", "f1"]) == 0
    printed = capsys.readouterr().out
    content: dict[str, Any] = json.loads((tmp_path / "moved" / "1" / "bundle.json").read_bytes())
    rows = frame[["a"]].to_dict("records")
    plain, moved = (
        np.array([one["probabilities"]["fraud"] for one in batchproof.load_model(tmp_path / name / "1").predict(rows)])
        for name in ("plain", "moved")
    )
    sizes = json.loads((tmp_path / "plain" / "1" / "bundle.json").read_bytes())["provenance"]["split"]
    shift = np.log(moved / (1 - moved)) - np.log(plain / (1 - plain))
    frauds = (frame["y"] == "fraud").mean()  # the split keeps it, up to a row

    assert shift == pytest.approx(np.full(len(rows), np.log(0.1 / 0.9) - np.log(frauds / (1 - frauds))), abs=0.02)
    assert content["metrics"]["class_prior"] == pytest.approx({"fine": 0.9, "fraud": 0.1})
    assert content["metrics"]["rows"] < 0.7 * sizes["test"]
    assert content["decision"]["rows"] < 0.7 * sizes["validation"]
    assert content["metrics"]["constant_log_loss"] < 0.4
    assert content["provenance"]["split"] == sizes
    report = (tmp_path / "moved" / "1" / "report.html").read_text()
    assert "until the classes had the stated shares: fine 0.9, fraud 0.1." in report
    assert "shares of classes in use: fine 0.9, fraud 0.1; " in printed

    assert main(["exact", str(tmp_path / "moved" / "1")]) == 0
    exact = batchproof.load_model(tmp_path / "moved" / "2").predict(rows)
    assert [one["probabilities"]["fraud"] for one in exact] == pytest.approx(moved, rel=1e-4)


def test_estimators(tmp_path: Path) -> None:
    """`class_prior` moves the probabilities of a classifier; a regressor refuses it."""
    frame = table(tmp_path / "t.csv", rows=200)
    settings: dict[str, Any] = {"widths": (8,), "ensemble": 1, "encoding": "plain", "epochs": 2, "threads": 1}
    x, y = frame[["a"]], frame["y"]
    plain, moved = (
        BatchNormMLPClassifier(**settings, class_prior=prior).fit(x, y).predict_proba(x)[:, 1]
        for prior in (None, {"fraud": 0.01})
    )
    assert (moved < plain).all()
    with pytest.raises(
        ValueError, match=r"^class_prior needs classes, but the target 'target' is a number: leave it out"
    ):
        BatchNormMLPRegressor(**settings, class_prior={"fraud": 0.01}).fit(x.assign(b=1.0), frame["a"])
