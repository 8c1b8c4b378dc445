"""Counts and positive amounts: fitted by their deviance, refused where they have none, and answered as means above 0."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as peers

import batchproof
from batchproof.training.__main__ import main
from batchproof.training.estimators.estimator import BatchNormMLPClassifier, BatchNormMLPRegressor
from tests.training.quick import quick

QUICK = [*quick("y", widths=8, epochs=30), *("--learning-rate", "0.02", "--ema", "0.9"), *("--quiet", "--name", "m")]


def table(path: Path, objective: str, rows: int = 600) -> pd.DataFrame:
    """Write a table whose target has a mean that grows with x: counts from 0 to about 9, or amounts."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 2))
    mean = np.exp(0.8 * x[:, 0])
    y = random.poisson(mean) if objective == "poisson" else random.gamma(4.0, 25.0 * mean).round(2) + 0.01
    frame = pd.DataFrame(x.round(4), columns=["a", "b"]).assign(y=y)
    frame.to_csv(path, index=False)
    return frame


def run(folder: Path, *flags: str) -> tuple[int, Path]:
    """Train and return the exit code, and the folder of the model."""
    return main([str(folder / "t.csv"), *QUICK, "--models", str(folder / "models"), *flags]), folder / "models" / "m"


@pytest.mark.parametrize("objective", ["poisson", "gamma"])
def test_a_mean_is_trained_exported_and_served(tmp_path: Path, objective: str) -> None:
    """Counts with few values are numbers too; means are above 0, better than a constant, measured, and the same when exact."""
    frame = table(tmp_path / "t.csv", objective)
    code, models = run(tmp_path, "--objective", objective)
    content: dict[str, Any] = json.loads((models / "1" / "bundle.json").read_bytes())
    metrics, rows = content["metrics"], frame[["a", "b"]].to_dict("records")
    values = np.array([one["value"] for one in batchproof.load_model(models / "1").predict(rows)])
    peer = peers.mean_poisson_deviance if objective == "poisson" else peers.mean_gamma_deviance

    assert code == 0
    assert (content["task"], content["format_version"]) == ("regression", 2)
    assert content["provenance"]["settings"]["objective"] == objective
    assert values.min() > 0
    assert peer(frame["y"], values) < 0.8 * peer(frame["y"], np.full(len(frame), frame["y"].mean()))
    assert metrics[f"{objective}_deviance"] < 0.8 * metrics[f"constant_{objective}_deviance"]
    assert {"rmse", "mae", "constant_rmse"} < metrics.keys()
    assert f"{objective.capitalize()} deviance" in unescape((models / "1" / "report.html").read_text())

    assert main(["exact", str(models / "1")]) == 0
    exact = [one["value"] for one in batchproof.load_model(models / "2").predict(rows)]
    assert json.loads((models / "2" / "bundle.json").read_bytes())["arithmetic"]["kind"] == "exact"
    assert exact == pytest.approx(values, rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "cell", "sentence"),
    [
        (
            "poisson",
            "-2",
            "--objective poisson needs numbers from 0 up, such as counts, but the target 'y' is -2 in line 12: correct or leave",
        ),
        (
            "gamma",
            "-2",
            "--objective gamma needs numbers above 0, but the target 'y' is -2 in line 12: correct or leave",
        ),
        (
            "gamma",
            "0",
            "the target 'y' is 0 in line 12: correct or leave out such rows; --objective poisson takes 0 too.",
        ),
        ("poisson", "", "the target 'y' has no finite value in line 12"),
        ("poisson", "two", "the target 'y' is text, and a regression needs numbers"),
    ],
)
def test_values_without_a_likelihood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], objective: str, cell: str, sentence: str
) -> None:
    """A value that the objective cannot count is refused with its line, before a fit."""
    frame = table(tmp_path / "t.csv", "gamma", rows=60).astype({"y": str})
    frame.loc[10, "y"] = cell
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert run(tmp_path, "--objective", objective)[0] == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_amounts_in_an_extreme_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str], unit: float) -> None:
    """A target whose predictions would leave float32 is refused with the units that would do."""
    frame = table(tmp_path / "t.csv", "gamma", rows=60)
    frame["y"] *= unit
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert run(tmp_path, "--objective", "gamma")[0] == 2
    assert "write it in a unit in which it is between 1e-20 and 1e+20." in capsys.readouterr().err


def test_classes_have_no_such_objective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--objective is refused beside a task of classes, and for an unknown name."""
    table(tmp_path / "t.csv", "poisson")
    assert run(tmp_path, "--objective", "poisson", "--task", "multiclass")[0] == 2
    assert "--objective is for numbers, but --task is multiclass: leave one of them out." in capsys.readouterr().err
    assert run(tmp_path, "--objective", "tweedie")[0] == 2
    assert "--objective is 'tweedie': use one of squared_error, poisson, gamma." in capsys.readouterr().err


def test_a_baseline_that_is_better_is_named_by_the_deviance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The warning about baselines compares the deviance, of a linear model with a logarithmic link."""
    table(tmp_path / "t.csv", "poisson")
    assert run(tmp_path, "--objective", "poisson", "--epochs", "1", "--learning-rate", "1e-8")[0] == 0
    printed = capsys.readouterr().out
    assert "warning: a linear model predicts the 120 test rows better than this network: Poisson deviance " in printed


def test_compare_counts_by_the_deviance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`compare --objective` fits every method to the deviance and ranks by it."""
    table(tmp_path / "t.csv", "poisson", rows=120)
    flags = [
        "--target",
        "y",
        "--objective",
        "poisson",
        "--folds",
        "2",
        "--epochs",
        "1",
        "--ensemble",
        "1",
        "--encoding",
    ]
    assert main(["compare", str(tmp_path / "t.csv"), *flags, "plain"]) == 0
    assert "Poisson deviance  over folds" in capsys.readouterr().out


def test_estimators(tmp_path: Path) -> None:
    """The regressor takes the objective and refuses values by their row; a classifier refuses it."""
    frame = table(tmp_path / "t.csv", "poisson", rows=120)
    x, y = frame[["a", "b"]], frame["y"]
    settings: dict[str, Any] = {"widths": (8,), "ensemble": 1, "encoding": "plain", "epochs": 2, "threads": 1}
    assert BatchNormMLPRegressor(**settings, objective="poisson").fit(x, y).predict(x).min() > 0
    with pytest.raises(ValueError, match=r"^objective poisson needs .* is -1 in row 3 \(the first is row 0\)"):
        BatchNormMLPRegressor(**settings, objective="poisson").fit(x, y.where(y.index != 3, -1))
    with pytest.raises(ValueError, match=r"^objective is for numbers, but the target 'y' has 2 classes: leave it out"):
        BatchNormMLPClassifier(**settings, objective="gamma").fit(x, y > 1)
