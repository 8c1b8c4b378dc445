"""The threshold of two classes: the best of all by its rule, in few digits, and written into the bundle."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peers

import batchproof
from batchproof.training.__main__ import main
from batchproof.training.estimators.estimator import BatchNormMLPClassifier
from batchproof.training.evaluation.threshold import best, between, count
from batchproof.training.goal import ThresholdRule, threshold_rule
from tests.training.quick import quick

RULES = ["f1", "balanced_accuracy", "cost=1:5", "cost=3:1"]
QUICK = [*quick("y", widths=8, epochs=4), "--quiet", "--name", "m"]


def rule_of(text: str) -> ThresholdRule:
    """Return the rule."""
    rule = threshold_rule(text)
    assert rule is not None
    return rule


def worth(text: str, y: np.ndarray, labels: np.ndarray) -> float:
    """Return what the rule wants least of, by scikit-learn."""
    if text == "f1":
        return -float(peers.f1_score(y, labels, zero_division=0.0))
    if text == "balanced_accuracy":
        return -float(peers.balanced_accuracy_score(y, labels))
    costs = rule_of(text).costs
    return float((costs[0] * (labels > y) + costs[1] * (labels < y)).mean())


@pytest.mark.parametrize("text", RULES)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 50), rows=st.integers(2, 40))
def test_no_other_threshold_is_better(text: str, seed: int, rows: int) -> None:
    """Of all thresholds that divide the rows differently, none is better by the rule, ties among them."""
    random = np.random.default_rng(seed)
    p = random.uniform(size=rows).astype(np.float32).round(1).astype(np.float32).astype(np.float64)
    y = np.concatenate([[0, 1], random.integers(0, 2, rows - 2)])
    threshold = best(rule_of(text), p, y)
    others = np.concatenate([[1e-9], (p[p > 0.0]), [1.0 - 1e-9]])
    found = worth(text, y, (p >= threshold).astype(int))

    assert 0.0 < threshold < 1.0
    assert found <= min(worth(text, y, (p >= other).astype(int)) for other in others) + 1e-9


def test_weights_count() -> None:
    """Rows count by their weight: the heavy one decides."""
    p, y = np.array([0.2, 0.4, 0.6]), np.array([1, 0, 1])
    heavy = best(rule_of("cost=1:1"), p, y, np.array([10.0, 1.0, 1.0]))
    light = best(rule_of("cost=1:1"), p, y, np.array([0.1, 1.0, 1.0]))
    assert heavy <= 0.2
    assert 0.4 < light <= 0.6


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_digits(a: float, b: float) -> None:
    """A threshold is above the lower probability and up to the upper one."""
    low, high = sorted((a, b))
    if low < high:
        found = between(low, high)
        assert low < found <= high or high - low < 1e-300
    assert between(0.30, 0.32) == 0.31
    assert between(0.1, 0.6) == 0.3 or between(0.1, 0.6) == 0.4


def test_counts_at_every_threshold() -> None:
    """A row at the threshold has the second class; precision is 1 where no row has it."""
    p, y = np.array([0.2, 0.5, 0.5, 0.9], np.float32), np.array([0, 1, 0, 1])
    counts = count(p, y, np.array([0.5, 0.51, 0.95]))
    assert counts.true_positives.tolist() == [2.0, 1.0, 0.0]
    assert counts.false_positives.tolist() == [1.0, 0.0, 0.0]
    assert counts.precision.tolist() == pytest.approx([2 / 3, 1.0, 1.0])
    assert counts.recall.tolist() == [1.0, 0.5, 0.0]
    assert counts.accuracy.tolist() == [0.75, 0.75, 0.5]
    assert counts.cost((2.0, 3.0)).tolist() == [0.5, 0.75, 1.5]


def table(path: Path, rows: int = 400) -> pd.DataFrame:
    """Write a table in which one row of six is `yes`, as far as x says."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 2))
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(
        y=np.where(x[:, 0] + random.normal(size=rows) > 1.4, "yes", "no")
    )
    frame.to_csv(path, index=False)
    return frame


def run(folder: Path, *flags: str) -> tuple[int, Path]:
    """Train and return the exit code, and the folder of the bundle."""
    return main([str(folder / "t.csv"), *QUICK, "--models", str(folder / "models"), *flags]), folder / "models" / "m"


def test_the_bundle_answers_by_its_threshold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rule is chosen on validation rows, written, warned of, shown in the report, and answered; exact bundles keep it."""
    frame = table(tmp_path / "t.csv")
    code, models = run(tmp_path, "--threshold", "cost=1:20")
    content: dict[str, Any] = json.loads((models / "1" / "bundle.json").read_bytes())
    decision, metrics = content["decision"], content["metrics"]

    assert code == 0
    assert content["format_version"] == 3
    assert (decision["rule"], decision["rows"]) == ("cost=1:20", 80)
    assert decision["threshold"] < 0.5
    assert metrics["threshold"] == decision["threshold"]
    assert {"precision", "recall", "f1", "balanced_accuracy", "cost"} < set(metrics)
    printed = capsys.readouterr().out
    assert "warning: the threshold was chosen on " in printed
    assert f"threshold {decision['threshold']:g} (cost=1:20): the label is yes from there on, below it no\n" in printed
    rows = frame[["a", "b"]].to_dict("records")
    answers = batchproof.load_model(models / "1").predict(rows)
    assert [one["label"] for one in answers] == [
        "yes" if one["probabilities"]["yes"] >= decision["threshold"] else "no" for one in answers
    ]
    report = unescape((models / "1" / "report.html").read_text())
    assert 'id="threshold"' in report
    assert "the least cost, where a false positive costs 1 and a false negative 20" in report
    assert "Accuracy" not in report[report.index('id="results"') : report.index('id="threshold"')]

    assert main(["exact", str(models / "1")]) == 0
    exact = json.loads((models / "2" / "bundle.json").read_bytes())
    assert (exact["decision"], exact["format_version"]) == (decision, 3)


def test_a_number_is_taken_as_it_is(tmp_path: Path) -> None:
    """A given threshold needs no rows and causes no warning."""
    table(tmp_path / "t.csv")
    code, models = run(tmp_path, "--threshold", "0.25")
    content = json.loads((models / "1" / "bundle.json").read_bytes())
    assert code == 0
    assert content["decision"] == {"threshold": 0.25, "rule": "0.25", "rows": 0}
    assert not [line for line in content["provenance"]["warnings"] if "threshold" in line]


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (
            ["red", "green", "blue"],
            "--threshold divides two classes, but the target 'y' has 3 classes: leave it out, and",
        ),
        (
            [f"{number}.5" for number in range(20)],
            "--threshold divides two classes, but the target 'y' is a number: leave",
        ),
    ],
)
def test_targets_without_a_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: list[str], sentence: str
) -> None:
    """Three classes and numbers have no threshold."""
    rows = "".join(f"{row * 7 % 23},{cells[row % len(cells)]}\n" for row in range(60))
    (tmp_path / "t.csv").write_text("x,y\n" + rows)
    assert run(tmp_path, "--threshold", "f1")[0] == 2
    assert sentence in capsys.readouterr().err


def test_estimators_predict_by_the_threshold(tmp_path: Path) -> None:
    """`predict` answers what the exported bundle will, at a number or a rule."""
    frame = table(tmp_path / "t.csv")
    quick: dict[str, Any] = {"widths": (8,), "ensemble": 1, "encoding": "plain", "epochs": 4, "threads": 1}
    model = BatchNormMLPClassifier(**quick, threshold="f1", test_share=0.2).fit(frame[["a", "b"]], frame["y"])
    chosen = model.predict(frame[["a", "b"]])
    decision = model.model_.decided.decision
    folder = model.export(tmp_path / "models", "m")
    answers = batchproof.load_model(folder).predict(frame[["a", "b"]])["prediction"]

    assert chosen.tolist() == answers.tolist()
    assert (
        chosen.tolist()
        == np.where(model.predict_proba(frame[["a", "b"]])[:, 1] >= decision.threshold, "yes", "no").tolist()
    )
    with pytest.raises(ValueError, match=r"^threshold is '2': use f1, balanced_accuracy"):
        BatchNormMLPClassifier(**quick, threshold=2).fit(frame[["a", "b"]], frame["y"])
