"""Quantiles beside a value: fitted by the pinball loss, sorted in the graph, measured on the test rows, and served."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as peers

import batchproof
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.__main__ import main
from batchproof.training.estimators.estimator import BatchNormMLPClassifier, BatchNormMLPRegressor
from batchproof.training.evaluation.metrics import quantiles
from batchproof.training.export.float32 import emit_column, emit_sorted
from batchproof.training.goal import GoalError, quantile_levels
from batchproof.training.network import objective as objectives
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto
from tests.training.quick import quick

QUICK = [*quick("y", widths=8, epochs=30), *("--learning-rate", "0.02", "--ema", "0.9"), *("--quiet", "--name", "m")]


@pytest.mark.parametrize("levels", [1, 2, 3, 8, 19])
def test_sorted_in_the_graph(levels: int) -> None:
    """Whatever the scores are, ties among them, the graph's quantiles are those sorted, and the value is not among them."""
    graph = Graph()
    source = graph.input("numeric", TensorProto.DOUBLE, 1 + levels)
    graph.output("value", emit_column(graph, source), TensorProto.DOUBLE, 1)
    graph.output("quantiles", emit_sorted(graph, source, levels), TensorProto.DOUBLE, levels)
    engine = Engine(graph.model("sorted").SerializeToString(), EngineOptions(device="cpu"), ["numeric"])
    scores = np.random.default_rng(levels).integers(-5, 5, (200, 1 + levels)).astype(np.float64)
    found = engine.run([scores])
    assert (found["value"] == scores[:, :1]).all()
    assert (found["quantiles"] == np.sort(scores[:, 1:], axis=1)).all()


def test_the_loss_is_squared_error_and_pinball() -> None:
    """The loss adds scikit-learn's mean pinball loss of all levels to the squared error, in standard units."""
    random = np.random.default_rng(0)
    y, levels = random.normal(5.0, 2.0, 50), (0.1, 0.5, 0.9)
    objective = objectives.fit("regression", y, 0, quantiles=levels)
    scores = torch.from_numpy(random.normal(size=(50, 4)))
    t = (y - y.mean()) / y.std()
    pinball = np.mean([peers.mean_pinball_loss(t, scores[:, 1 + place], alpha=q) for place, q in enumerate(levels)])
    found = objective.losses(scores, objective.encode(y))
    assert objective.outputs == 4
    assert float(found.mean()) == pytest.approx(np.square(t - scores[:, 0].numpy()).mean() + pinball, rel=1e-6)


def test_metrics() -> None:
    """Coverage is the share of rows up to the quantile; the pinball loss is scikit-learn's, also of constant quantiles."""
    random = np.random.default_rng(0)
    y, predicted, levels = random.normal(size=80), np.sort(random.normal(size=(80, 2)), axis=1), (0.2, 0.8)
    found = quantiles(predicted, y, np.arange(11.0), levels)
    assert found["quantiles"]["0.8"]["coverage"] == (y <= predicted[:, 1]).mean()
    assert found["quantiles"]["0.2"]["pinball"] == pytest.approx(peers.mean_pinball_loss(y, predicted[:, 0], alpha=0.2))
    constant = [peers.mean_pinball_loss(y, np.full(80, q * 10), alpha=q) for q in levels]
    assert found["constant_pinball"] == pytest.approx(np.mean(constant))


@pytest.mark.parametrize("text", ["", "0.5,", "a", "0", "1", "0.5,0.5", "-0.1", "nan", "0.0001"])
def test_levels_that_are_none(text: str) -> None:
    """A level is a number from 0.001 to 0.999, given once."""
    with pytest.raises(GoalError, match=r"^--quantiles is .*: use numbers from 0.001 to 0.999, each once, such as"):
        quantile_levels(text)


def test_levels() -> None:
    """Levels are put in order; nineteen are the most."""
    assert quantile_levels(".9,0.1, 0.5") == (0.1, 0.5, 0.9)
    assert quantile_levels(None) == ()
    with pytest.raises(GoalError, match="--quantiles has 20 levels: 19 are the most"):
        quantile_levels(",".join(f"0.{number}" for number in range(11, 31)))


def table(path: Path, rows: int = 900) -> pd.DataFrame:
    """Write a table whose target spreads more where x is greater."""
    random = np.random.default_rng(0)
    x = random.uniform(0.0, 2.0, rows)
    frame = pd.DataFrame({"a": x.round(4), "y": (10.0 + x + (0.2 + x) * random.normal(size=rows)).round(4)})
    frame.to_csv(path, index=False)
    return frame


def run(folder: Path, *flags: str) -> tuple[int, Path]:
    """Train and return the exit code, and the folder of the model."""
    return main([str(folder / "t.csv"), *QUICK, "--models", str(folder / "models"), *flags]), folder / "models" / "m"


def test_quantiles_are_trained_exported_and_served(tmp_path: Path) -> None:
    """They cover about what they should, stand in metrics and report, never cross, and are the same in exact arithmetic."""
    frame = table(tmp_path / "t.csv")
    code, models = run(tmp_path, "--quantiles", "0.9,0.1,0.5")
    content: dict[str, Any] = json.loads((models / "1" / "bundle.json").read_bytes())
    metrics, rows = content["metrics"], frame[["a"]].to_dict("records")
    answers = batchproof.load_model(models / "1").predict(rows)
    found = np.array([list(one["quantiles"].values()) for one in answers])

    assert code == 0
    assert (content["format_version"], content["quantiles"]) == (4, [0.1, 0.5, 0.9])
    assert list(answers[0]["quantiles"]) == ["0.1", "0.5", "0.9"]
    assert (np.diff(found, axis=1) >= 0).all()
    assert (frame["y"].to_numpy()[:, None] <= found).mean(axis=0) == pytest.approx([0.1, 0.5, 0.9], abs=0.08)
    assert list(metrics["quantiles"]) == ["0.1", "0.5", "0.9"]
    assert metrics["pinball"] < metrics["constant_pinball"]
    wide = found[:, 2] - found[:, 0]
    assert wide[frame["a"] > 1.5].mean() > 2 * wide[frame["a"] < 0.5].mean()
    report = unescape((models / "1" / "report.html").read_text())
    assert "test rows up to it" in report
    assert f"Mean pinball loss {metrics['pinball']:.4g}" in report

    assert main(["exact", str(models / "1")]) == 0
    exact = json.loads((models / "2" / "bundle.json").read_bytes())
    assert (exact["arithmetic"]["kind"], exact["quantiles"]) == ("exact", [0.1, 0.5, 0.9])
    again = [list(one["quantiles"].values()) for one in batchproof.load_model(models / "2").predict(rows)]
    assert np.array(again) == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--task", "multiclass"], "--quantiles is for numbers, but --task is multiclass: leave one of them out."),
        (["--objective", "gamma"], "--quantiles are fitted beside squared error: leave --objective gamma out."),
        (
            ["--quantiles", "90"],
            "--quantiles is '90': use numbers from 0.001 to 0.999, each once, such as 0.1,0.5,0.9.",
        ),
    ],
)
def test_what_has_no_quantiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    """Classes, other objectives and levels outside 0 to 1 are refused before the table is read."""
    assert run(tmp_path, "--quantiles", "0.5", *flags)[0] == 2
    assert sentence in capsys.readouterr().err


def test_estimators(tmp_path: Path) -> None:
    """`predict_quantiles` answers what the exported bundle will; without levels, and for classes, it says why not."""
    frame = table(tmp_path / "t.csv", rows=150)
    x, y = frame[["a"]], frame["y"]
    settings: dict[str, Any] = {"widths": (8,), "ensemble": 1, "encoding": "plain", "epochs": 2, "threads": 1}
    model = BatchNormMLPRegressor(**settings, quantiles=(0.1, 0.9)).fit(x, y)
    found = model.predict_quantiles(x)
    answers = batchproof.load_model(model.export(tmp_path / "models", "m")).predict(x)
    assert found.tobytes() == answers[["quantile_0.1", "quantile_0.9"]].to_numpy().tobytes()
    with pytest.raises(AttributeError, match=r"fit it with quantiles=\(0.1, 0.5, 0.9\)"):
        BatchNormMLPRegressor(**settings).fit(x, y).predict_quantiles(x)
    with pytest.raises(
        ValueError, match=r"^quantiles are for numbers, but the target 'y' has 2 classes: leave them out"
    ):
        BatchNormMLPClassifier(**settings, quantiles=(0.5,)).fit(x, y > 11)
