"""Several numbers predicted at once: one network, each target in its own units, measured, exported and served."""

import json
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import batchproof
from batchproof.service.bundle import reader
from batchproof.training.__main__ import main
from batchproof.training.data.dataset import Dataset, prepare
from batchproof.training.data.leakage import find
from batchproof.training.data.text.text_options import targets_of
from batchproof.training.evaluation import baselines, metrics
from batchproof.training.evaluation.comparison import lost_to
from batchproof.training.evaluation.conformal import alike, for_values
from batchproof.training.fit.metric import judged
from batchproof.training.network import objective as objectives
from batchproof.training.network.fold import Output, outputs_of
from batchproof.training.network.parity import ParityError, check_engine, comparable
from batchproof.training.network.tensors import Rows
from batchproof.training.settings import SettingError, make
from tests.training.quick import quick

NAMES = ["big", "small", "plain"]
QUICK = [
    *quick("big,small,plain", widths=8, epochs=12),
    *("--learning-rate", "0.02", "--ema", "0.9"),
    *("--quiet", "--name", "m"),
]


def table(path: Path, rows: int = 900) -> pd.DataFrame:
    """Write a table with three targets whose units differ by 1e9, and one of classes."""
    random = np.random.default_rng(0)
    a, b = random.uniform(-1.0, 1.0, rows), random.choice(["x", "y"], rows)
    noise = random.normal(size=(3, rows)) * 0.1
    frame = pd.DataFrame(
        {
            "a": a.round(4),
            "b": b,
            "big": 1e6 * (5.0 + a + noise[0]),
            "small": 1e-3 * ((b == "x") + noise[1]),
            "plain": a * (b == "x") + noise[2],
            "few": random.integers(0, 4, rows),
            "word": np.where(a > 0, "up", "down"),
            "group": random.integers(0, 60, rows),
            "weight": random.uniform(0.5, 2.0, rows).round(2),
        }
    )
    frame.to_csv(path, index=False)
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the table."""
    folder = tmp_path_factory.mktemp("several")
    table(folder / "t.csv")
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> Path:
    """Train on the three targets, and export the network again in exact arithmetic."""
    assert (
        main([str(folder / "t.csv"), *QUICK, "--models", str(folder / "models"), "--drop", "few,word,group,weight"])
        == 0
    )
    assert main(["exact", str(folder / "models" / "m" / "1")]) == 0
    return folder / "models" / "m"


def prepared(folder: Path, **given: Any) -> Dataset:
    """Return the table as training prepares it."""
    return prepare(
        folder / "t.csv", make({"target": "big,small,plain", "drop": ("few", "word", "group", "weight"), **given})
    )


def content(folder: Path) -> dict[str, Any]:
    """Return bundle.json."""
    found: dict[str, Any] = json.loads((folder / "bundle.json").read_bytes())
    return found


def served(folder: Path, rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return what the bundle answers for rows, [rows, targets] float32."""
    return np.array([list(one["values"].values()) for one in batchproof.load_model(folder).predict(rows)], np.float32)


def test_the_bundle_says_what_is_predicted(models: Path) -> None:
    """The targets stand in the signature, in the order of the flag; the format is the one that older services refuse."""
    found = content(models / "1")
    assert (found["format_version"], found["signature"]["targets"], found["task"]) == (5, NAMES, "regression")
    assert "target" not in found["signature"]
    assert found["uncertainty"] is None
    assert [feature["name"] for feature in found["signature"]["inputs"]] == ["a", "b"]
    reference = reader.read(models / "1").reference
    assert reference is not None
    assert [int(column.counts.sum()) for column in reference.predictions] == [180] * 3


def test_each_target_is_learnt_in_its_own_units(folder: Path, models: Path) -> None:
    """No target is lost beside one a billion times as large: each explains most of its own spread, and its intervals cover."""
    found = content(models / "1")
    measured = found["metrics"]["targets"]
    assert list(measured) == NAMES
    assert all(one["r2"] > 0.8 and one["rmse"] < 0.5 * one["constant_rmse"] for one in measured.values())
    assert found["metrics"]["r2"] == pytest.approx(np.mean([one["r2"] for one in measured.values()]))
    assert all(set(one["intervals"]) == {"rmse", "mae", "r2"} for one in measured.values())
    assert [one["tested"]["0.9"]["coverage"] for one in found["uncertainties"]] == pytest.approx([0.9] * 3, abs=0.08)
    data = prepared(folder)
    truth, rows = data.y("test"), data.arrays["test"]
    scales = np.std(data.y("train"), axis=0)
    values = served(
        models / "1",
        [
            {"a": a, "b": "xy"[code]}
            for a, code in zip(rows.numeric[:, 0].tolist(), rows.categorical[:, 0].tolist(), strict=True)
        ],
    )  # type: ignore[index]
    wanted = np.sqrt(np.square((values - truth) / scales).mean())
    assert found["metrics"]["standardised_rmse"] == pytest.approx(wanted, rel=1e-6)


def test_a_row_has_the_same_bits_in_any_batch_and_in_both_arithmetics_nearly_the_same_values(models: Path) -> None:
    """Alone, together and in another order each target has the same bits; exact arithmetic is proved, and close."""
    random = np.random.default_rng(1)
    rows = [
        {"a": float(a), "b": b}
        for a, b in zip(random.uniform(-2, 2, 70), random.choice(["x", "y", "z"], 70), strict=True)
    ]
    found = {}
    for version in ("1", "2"):
        together = served(models / version, rows)
        alone = np.concatenate([served(models / version, rows[place : place + 1]) for place in range(0, 70, 7)])
        assert alone.tobytes() == np.ascontiguousarray(together[::7]).tobytes()
        assert served(models / version, rows[::-1])[::-1].tobytes() == together.tobytes()
        found[version] = together
    exact = content(models / "2")
    assert (exact["arithmetic"]["kind"], exact["signature"]["targets"]) == ("exact", NAMES)
    assert batchproof.load_model(models / "2").fingerprint["invariance"] == "proved"
    assert exact["uncertainties"] == content(models / "1")["uncertainties"]
    assert exact["arithmetic"]["accuracy"]["score_error"] < 1e-4
    assert (np.abs(found["1"] - found["2"]) <= 1e-4 * np.ptp(found["1"], axis=0)).all()


def test_the_report_shows_each_target(models: Path) -> None:
    """The page has the errors, the metrics and the coverage of each target, and says that coverage is not joint."""
    report = unescape((models / "1" / "report.html").read_text())
    for name in NAMES:
        for figure in ("Predicted against true", "Errors", "RMSE (in the target's unit)", "Coverage as numbers"):
            assert f"{name}: {figure}" in report
    assert "Predicts big, small and plain, 3 numbers" in report
    assert "all intervals of a row hold together less often" in report


def test_the_terminal_names_each_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first lines name the targets, the last ones have a line of metrics for each."""
    flags = ["--drop", "few,word,group,weight", "--models", str(folder / "said"), "--epochs", "1"]
    assert main([str(folder / "t.csv"), *QUICK, *flags]) == 0
    said = capsys.readouterr().out
    assert "targets 'big', 'small', 'plain': regression (the targets are numbers)" in said
    assert "test rows: standardised_rmse" in said
    assert all(f"\n  {name}: rmse " in said for name in NAMES)


@pytest.mark.parametrize(
    "flags",
    [
        ("--weight", "weight", "--group", "group"),
        ("--time", "group", "--metric", "mae", "--encoding", "tree"),
        ("--processes", "1"),
    ],
)
def test_other_settings_work_with_them(folder: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Weights, groups, times, metrics, encodings of trees and shards are those of one target."""
    drop = ",".join(name for name in ("few", "word", "group", "weight") if name not in flags)
    assert (
        main([str(folder / "t.csv"), *QUICK, "--epochs", "2", *flags, "--drop", drop, "--models", str(tmp_path)]) == 0
    )
    found = content(tmp_path / "m" / "1")
    assert list(found["metrics"]["targets"]) == NAMES
    assert ("weighted_standardised_rmse" in found["metrics"]) == ("--weight" in flags)


def test_memory_changes_no_byte(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are encoded in every epoch, and a table in scratch files, give the same bundle."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    flags = [*QUICK, "--epochs", "2", "--drop", "few,word,group,weight", "--threads", "1"]
    assert main([str(folder / "t.csv"), *flags, "--models", str(tmp_path / "one")]) == 0
    monkeypatch.setattr("batchproof.training.network.tensors.EXPANDED_BYTES", 0)
    assert main([str(folder / "t.csv"), *flags, "--models", str(tmp_path / "two"), "--memory", "1MB"]) == 0
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / name / "m" / "1").iterdir()} for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--target", "big,word"], "several targets must all be numbers, but 'word' is text: train another model for 'word'."),
        (
            ["--target", "big,few"],
            "several targets must all be numbers, but 'few' has 4 classes (the target has 4 whole numbers): --task regression predicts it as a number.",
        ),
        (["--target", "big,small,big"], "--target names the column 'big' twice: name each target once."),
        (["--target", "big,smal"], "--target names 'smal', but there is no such column: did you mean 'small'?"),
        (["--target", "big,small", "--drop", "small"], "column 'small' is a target and cannot be dropped."),
        (["--target", "big,small", "--weight", "small"], "column 'small' is named in both --target and --weight: choose one."),
        (["--target", "big,small", "--task", "binary"], "--task is binary, but several targets, 'big', 'small', must all be numbers: train a model for each."),
        (["--target", "big,small", "--quantiles", "0.1"], "--quantiles is for one target, but there are 2: leave it out, or train a model for each target."),
        (["--target", "big,small", "--objective", "gamma"], "--objective is for one target, but there are 2: leave it out, or train a model for each target."),
        (["--target", "big,small", "--threshold", "f1"], "--threshold is for one target, but there are 2: leave it out, or train a model for each target."),
        (["--target", "big,small", "--class-weight", "balanced"], "--class-weight is for one target, but there are 2: leave it out, or train a model for each target."),
        (["--target", "big,small", "--class-prior", "a=0.1"], "--class-prior is for one target, but there are 2: leave it out, or train a model for each target."),
        (["--target", "big,small", "--metric", "auc"], "--metric auc is for a target of two classes, but 'big, small' are numbers: use one of rmse, mae."),
    ],
)  # fmt: skip
def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str) -> None:
    """What several targets cannot have, and a target that is none, is refused in one sentence; nothing is written."""
    assert main([str(folder / "t.csv"), "--models", str(folder / "none"), *flags]) == 2
    assert capsys.readouterr().err.strip() == f"batchproof-train: {sentence}"
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ("1,1,2\n2,,3\n" * 30, "the target 'b' has no finite value in 30 rows, the first is line 3: fill in the values or remove these rows."),
        ("1,5,2.5\n2,5,3.5\n" * 30, "the target 'b' is 5 in every row: there is nothing to predict."),
        ("1,1e31,2.5\n2,2,3.5\n" * 30, "the target 'b' has values as large as 1e+31, and predictions are 32-bit floats:"),
    ],
)  # fmt: skip
def test_each_target_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: str, sentence: str) -> None:
    """Missing values, a constant and values beyond float32 are refused for each target as for a single one."""
    (tmp_path / "t.csv").write_text("x,b,c\n" + cells)
    flags = ["--target", "c,b", "--task", "regression", "--models", str(tmp_path / "models")]
    assert main([str(tmp_path / "t.csv"), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_rows_without_one_of_the_targets_are_left_out(tmp_path: Path) -> None:
    """--skip-missing-target leaves out every row that lacks a target."""
    rows = [f"{row * 37 % 70},{'' if row % 5 == 0 else row / 7},{'' if row % 7 == 0 else row / 3}" for row in range(70)]
    (tmp_path / "t.csv").write_text("x,b,c\n" + "\n".join(rows))
    data = prepare(tmp_path / "t.csv", make({"target": "b,c", "skip_missing_target": True}))
    assert len(data.target.y) == sum(row % 5 != 0 and row % 7 != 0 for row in range(70))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a", ("a",)), ("a,b", ("a", "b")), (" a , b", ("a", "b")), ("x,y", ("x,y",)), ("x,y,a", ("x,y", "a")),
        ("a,x,y", ("a", "x,y")), ("none", ("none",)), ("a,none", ("a", "none")),
    ],
)  # fmt: skip
def test_names_in_one_flag(text: str, found: tuple[str, ...]) -> None:
    """Targets are separated by commas; a column whose name holds a comma stays whole."""
    assert targets_of(text, ["a", "b", "x,y"]) == found


def test_leaks_name_their_target(tmp_path: Path) -> None:
    """A feature that equals one of the targets is named with that target."""
    random = np.random.default_rng(0)
    b, c = random.normal(size=(2, 400))
    pd.DataFrame({"x": random.normal(size=400), "copy": c * 2 + 1, "b": b, "c": c}).to_csv(
        tmp_path / "t.csv", index=False
    )
    data = prepare(tmp_path / "t.csv", make({"target": "b,c"}))
    (line,) = find(data.signature, data.arrays, data.target, data.split).lines(data.split)
    assert line.startswith("warning: 'copy' removes 9")
    assert "of the error of 'c' by itself" in line


def test_the_loss_is_the_mean_of_standardised_errors() -> None:
    """The loss and the metrics are means over the targets, each in standard deviations of the training rows."""
    random = np.random.default_rng(0)
    y = random.normal(size=(50, 2)) * [1.0, 1e6] + [0.0, 5e6]
    objective = objectives.fit("regression", y, 0)
    t, scores = (y - y.mean(axis=0)) / y.std(axis=0), torch.from_numpy(random.normal(size=(50, 2)))
    encoded = objective.encode(y)
    assert (objective.outputs, objective.targets) == (2, 2)
    assert encoded.numpy() == pytest.approx(t, rel=1e-5)
    assert objective.losses(scores, encoded).numpy() == pytest.approx(
        np.square(scores.numpy() - t).mean(axis=1), rel=1e-5
    )
    rows = Rows(torch.zeros(50, 1), None, encoded)
    for name, wanted in (("rmse", np.square(scores.numpy() - t)), ("mae", np.abs(scores.numpy() - t))):
        by_metric = objectives.fit("regression", y, 0, name)
        assert judged(by_metric, scores, rows).numpy() == pytest.approx(wanted.mean(axis=1), rel=1e-5)


def test_parity_holds_every_target_in_its_own_units() -> None:
    """An error of a whole standard deviation in a target of small units is found beside one of large units."""
    output = Output("regression", (0.0, 0.0), (1.0, 1e-6))
    scores = np.random.default_rng(0).normal(size=(40, 2))
    good = {name: values.astype(np.float32) for name, values in outputs_of(scores, output).items()}
    wanted, _ = comparable(scores, good, output)
    assert wanted.std(axis=0) == pytest.approx(scores.std(axis=0))
    bad = {"value": good["value"] + np.array([0.0, 1e-6], np.float32)}
    folded = type("Folded", (), {"output": output})()
    assert check_engine(folded, scores, good) < 1e-6
    with pytest.raises(ParityError):
        check_engine(folded, scores, bad)


def test_baselines_and_their_warnings_are_those_of_each_target(folder: Path) -> None:
    """Every baseline predicts all targets, and one that is better at a single target is named with it."""
    data = prepared(folder)
    y = data.y("test")
    answers = {name: method(data) for name, method in baselines.BASELINES.items()}
    assert {answer.shape for answer in answers.values()} == {y.shape}
    bad = y.copy()
    bad[:, 1] = 1.0
    (line,) = lost_to(data, {"value": bad}, {"a constant": answers["a constant"]})
    assert line.startswith("warning: a constant predicts 'small' of the 180 test rows better than this network: RMSE ")
    loss = metrics.loss_of(data.target)
    assert (
        loss.total(loss.of_rows(answers["boosted trees"], y)) < 0.5 < loss.total(loss.of_rows(answers["a constant"], y))
    )


def test_all_targets_have_the_same_coverages() -> None:
    """Where the rows of one target support fewer coverages, all have those, in thresholds and tests alike."""
    random = np.random.default_rng(0)
    many, few = (for_values(*random.normal(size=(4, rows))) for rows in (200, 30))
    assert many is not None
    assert few is not None
    cut, kept = alike([many, few])
    assert kept == few
    assert cut.coverages == few.coverages
    assert list(cut.tested) == list(few.tested)
    assert [len(bin_) for bin_ in cut.thresholds] == [len(few.coverages)] * len(many.thresholds)


def test_too_many(tmp_path: Path) -> None:
    """A bundle holds a hundred targets."""
    names = [f"y{place}" for place in range(101)]
    pd.DataFrame(np.random.default_rng(0).normal(size=(20, 102)), columns=["x", *names]).to_csv(
        tmp_path / "t.csv", index=False
    )
    with pytest.raises(SettingError, match="--target names 101 columns: 100 are the most"):
        prepare(tmp_path / "t.csv", make({"target": ",".join(names)}))


def test_compare_ranks_methods_by_all_targets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cross-validation compares by the RMSE in standard deviations, over all targets."""
    flags = ["--target", "big,small,plain", "--folds", "2", "--epochs", "2", "--ensemble", "1", "--encoding", "plain"]
    assert main(["compare", str(folder / "t.csv"), *flags, "--drop", "few,word,group,weight"]) == 0
    said = capsys.readouterr().out
    assert "standardised RMSE" in said
    assert "boosted trees" in said
