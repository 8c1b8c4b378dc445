"""The network against its baselines: where it loses, a warning says so, in the terminal, the report and bundle.json."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.training.__main__ import main
from batchproof.training.estimators.estimator import BatchNormMLPClassifier, BatchNormMLPRegressor
from batchproof.training.evaluation.comparison import CONSTANT, LINEAR, baseline_answers, lost_to
from batchproof.training.trained_model import Model
from tests.training.quick import quick

QUICK: dict[str, Any] = {"widths": (8,), "ensemble": 1, "encoding": "plain", "epochs": 2, "threads": 1}


@pytest.fixture(scope="module")
def model() -> Model:
    """Return a hasty network for a target that is linear."""
    x = np.random.default_rng(0).normal(size=(400, 2))
    made: Model = BatchNormMLPRegressor(**QUICK, test_share=0.3).fit(x, 10.0 * x[:, 0]).model_
    return made


def test_a_clear_loss_names_the_better_model(model: Model) -> None:
    """A linear target is predicted better by the linear model, and the sentence has both losses and the advice."""
    outputs = model.run(model.data.arrays["test"])
    (line, *rest) = lost_to(model.data, outputs, baseline_answers(model.data))

    error = outputs["value"][:, 0] - model.data.y("test")
    assert line.startswith("warning: a linear model predicts the 120 test rows better than this network: RMSE ")
    assert f", not {np.sqrt(np.square(error.astype(np.float64)).mean()):.4g}; " in line
    assert line.endswith(
        "use a linear model in its place, unless cross-validation (batchproof-train compare) says otherwise."
    )
    assert not [other for other in rest if LINEAR in other]


def test_a_win_and_a_tie_are_not_mentioned(model: Model) -> None:
    """A baseline that is worse, equal, or better by less than 1 % of the loss causes no warning."""
    y = model.data.y("test")
    outputs = {"value": (y + 1.0).astype(np.float32)[:, None]}
    answers = {LINEAR: y + 0.995, CONSTANT: y + 2.0, "the same": outputs["value"][:, 0]}

    assert lost_to(model.data, outputs, answers) == []


def test_few_rows_do_not_decide(model: Model) -> None:
    """Where the difference is within its standard error, the advice is to cross-validate, not to change the model."""
    y = model.data.y("test")
    random = np.random.default_rng(1)
    ours = random.normal(size=len(y))
    theirs = 0.97 * random.permutation(ours)
    lines = lost_to(model.data, {"value": (y + ours).astype(np.float32)[:, None]}, {LINEAR: y + theirs})

    assert [line.partition("; ")[2] for line in lines] == [
        "these rows are too few to say which is better; cross-validate both (batchproof-train compare)."
    ]


def test_classes_are_compared_by_log_loss() -> None:
    """For classes the losses are those of the true class, and a constant better than the network is named too."""
    x = np.random.default_rng(0).normal(size=(300, 2))
    model = BatchNormMLPClassifier(**QUICK, test_share=0.3).fit(x, np.where(x[:, 0] > 0, "a", "b")).model_
    data = model.data
    wrong = np.eye(2)[1 - data.y("test")] * 0.8 + 0.1
    lines = lost_to(data, {"probabilities": wrong.astype(np.float32)}, baseline_answers(data))

    assert [line.split(" predicts")[0] for line in lines] == ["warning: a linear model", "warning: a constant"]
    assert all("log loss" in line and ", not 2.303; " in line for line in lines)


def test_the_warning_is_in_the_terminal_the_report_and_the_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command whose network loses prints the warning at the end, and writes it where people and programs look."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 2))
    table = tmp_path / "line.csv"
    table.write_text("a,b,y\n" + "".join(f"{a:.6f},{b:.6f},{10 * a - b:.6f}\n" for a, b in rows))
    flags = [*quick("y", widths=4, epochs=1), "--quiet", "--models"]

    assert main([str(table), *flags, str(tmp_path / "models")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: a linear model")]
    folder = tmp_path / "models" / "line" / "1"
    assert line in json.loads((folder / "bundle.json").read_bytes())["provenance"]["warnings"]
    report = unescape((folder / "report.html").read_text())
    shown = line.removeprefix("warning: a")
    assert report.count(shown) == 2  # with the results, and with the other warnings
    assert report.index('id="results"') < report.index(shown) < report.index('id="uncertainty"')
