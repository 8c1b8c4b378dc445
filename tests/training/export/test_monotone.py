"""Monotone constraints from the command to the answers: no answer goes the wrong way, in any bit, and the graph shows why."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import numpy_helper

import batchproof
from batchproof.service.bundle.files.checksum import seal
from batchproof.training.__main__ import main
from batchproof.training.network import weights
from batchproof.training.prove import ProofError
from batchproof.training.prove.monotone import features
from batchproof.training.prove.monotone.walk import unproved
from tests.training.quick import quick

CONSTRAINTS = {"carat": 1, "sold": 1, "age": -1}
FLAGS = ["--increasing", "carat,sold", "--decreasing", "age"]
QUICK = [*quick("y", widths=16, epochs=25), "--widths", "16,12", "--learning-rate", "0.02", "--quiet", "--seed", "3"]
CASES = {  # the target's column, and how it is fitted
    "value": ["value", "--quantiles", "0.1,0.5,0.9", "--encoding", "bins", "--ensemble", "2"],
    "plain": ["value", "--encoding", "plain"],
    "waves": ["value", "--encoding", "waves", "--no-affine"],
    "poisson": ["count", "--objective", "poisson", "--encoding", "tree"],
    "gamma": ["amount", "--objective", "gamma"],
    "targets": ["value", "--target", "y,amount"],
    "classes": ["good", "--ensemble", "3", "--encoding", "bins", "--class-prior", "yes=0.2", "--threshold", "f1"],
}
CONTEXTS = 25  # rows of other features that each constrained one is swept in


@cache
def rows(count: int = 500) -> pd.DataFrame:
    """Return a noisy table that an unconstrained fit does not follow monotonically, and targets of every kind."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "carat": np.round(random.lognormal(size=count), 2),
            "age": random.integers(0, 30, count),
            "free": np.round(random.normal(size=count), 3),
            "sold": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 700, count), unit="D"),
            "cut": random.choice(["fair", "good", "ideal"], count),
        }
    )
    level = np.log(frame["carat"]) * (1 + (frame["cut"] == "ideal")) - 0.03 * frame["age"] + np.sin(3 * frame["free"])
    frame["value"] = level + random.normal(size=count)
    frame["amount"] = random.gamma(2.0, np.exp(0.3 * level))
    frame["count"] = random.poisson(np.exp(0.3 * level))
    frame["good"] = np.where(level + random.normal(size=count) > 0.3, "yes", "no")
    frame.loc[random.random(count) < 0.1, ["carat"]] = np.nan
    frame["sold"] = frame["sold"].dt.strftime("%Y-%m-%d")
    return frame


def trained(folder: Path, case: str, *flags: str) -> Path:
    """Train on the table, with one of the targets named y, and return the folder of the bundle."""
    target, *goal = CASES[case]
    targets = {target, *",".join(goal).split(",")}
    frame = rows().drop(columns=[name for name in ("value", "amount", "count", "good") if name not in targets])
    frame.rename(columns={target: "y"}).to_csv(folder / "t.csv", index=False)
    code = main([str(folder / "t.csv"), *QUICK, *goal, *flags, "--name", "m", "--models", str(folder / "models")])
    assert code == 0
    return max((folder / "models" / "m").iterdir())


def swept(folder: Path, name: str) -> pd.DataFrame:
    """Return rows in which only one feature grows, in steps of all sizes, CONTEXTS times one after another."""
    random = np.random.default_rng(7)
    features_of = rows()[["carat", "age", "free", "sold", "cut"]]
    seen = features_of[name].dropna()
    if name == "sold":
        moments = pd.to_datetime(seen).drop_duplicates().sort_values()
        texts = [(moments + pd.Timedelta(later, "s")).dt.strftime("%Y-%m-%dT%H:%M:%S") for later in (0, 1)]
        values: Any = ["0001-01-01T00:00:00", *sorted(np.concatenate(texts)), "9999-12-31T23:59:59"]
    else:
        spread = float(seen.max() - seen.min())
        edges = edges_of(folder, name)
        near = np.concatenate([np.nextafter(edges, way) for way in (-np.inf, np.inf)])
        far = np.outer([-1.0, 1.0], np.concatenate([spread * 10.0 ** np.arange(9), [1e100, 1.7e308]])).ravel()
        between = random.uniform(seen.min() - spread, seen.max() + spread, 100)
        tight = seen.median() + spread * np.arange(50) * 2.0**-50
        values = np.unique(np.concatenate([seen, edges, near, far, between, tight]))
    contexts = features_of.drop(columns=name).iloc[random.integers(0, len(features_of), CONTEXTS).repeat(len(values))]
    return contexts.reset_index(drop=True).assign(**{name: list(values) * CONTEXTS})


def edges_of(folder: Path, name: str) -> np.ndarray:
    """Return the edges of the bins of a feature."""
    manifest = json.loads((folder / "bundle.json").read_bytes())
    numeric = [each["name"] for each in manifest["signature"]["inputs"] if each["kind"] != "categorical"]
    preprocess = weights.read(folder / "weights.safetensors", manifest["task"]).preprocess
    if preprocess.piecewise is None:
        return np.zeros(0)
    own = preprocess.piecewise.column == numeric.index(name)
    low, slope = preprocess.piecewise.low[own], preprocess.piecewise.slope[own]
    return np.unique(np.concatenate([low, low + 1.0 / slope]))


def steps(folder: Path, name: str) -> np.ndarray:
    """Return by how much each answer grows at each step of a sweep of one feature [contexts, steps, answers]."""
    answers = batchproof.load_model(folder).predict(swept(folder, name))
    kept = [column for column in answers if column.startswith(("prediction", "quantile_", "probability_yes"))]
    found = answers[kept].select_dtypes("number").to_numpy(np.float64)
    assert found.shape[1] >= 1
    return np.diff(found.reshape(CONTEXTS, -1, found.shape[1]), axis=1)


@pytest.mark.parametrize("case", list(CASES))
def test_no_answer_goes_the_wrong_way(tmp_path: Path, case: str) -> None:
    """Whatever the other features are, no bit of an answer goes against a constraint, in either arithmetic."""
    folder = trained(tmp_path, case, *FLAGS)
    assert main(["exact", str(folder)]) == 0
    for version in (folder, folder.parent / "2"):
        for name, direction in CONSTRAINTS.items():
            found = direction * steps(version, name)
            assert found.min() >= 0.0, (version, name)
            assert found.max() > 0.0, (version, name)  # the feature is used


@pytest.mark.parametrize("case", ["value", "classes"])
def test_a_free_fit_goes_the_wrong_way(tmp_path: Path, case: str) -> None:
    """Without the constraints, answers of the same fit fall with each feature: so the sweep above can fail."""
    folder = trained(tmp_path, case)
    for name, direction in CONSTRAINTS.items():
        assert (direction * steps(folder, name)).min() < 0.0, name


def changed(model: bytes, name: str, change: Any) -> bytes:
    """Return a model with one stored tensor changed in place by a function."""
    parsed = onnx.load_model_from_string(model)
    stored = next(each for each in parsed.graph.initializer if each.name == name)
    value = numpy_helper.to_array(stored).copy()
    change(value)
    stored.CopyFrom(numpy_helper.from_array(value, name))
    return bytes(parsed.SerializeToString())


def flipped(model: bytes) -> dict[str, bytes]:
    """Return, for each stored matrix of a network, the model with its greatest weight of either sign turned."""
    parsed = onnx.load_model_from_string(model)
    names = [each.name for each in parsed.graph.initializer if "layer" in each.name and each.name.endswith("_weight")]

    def turn(value: np.ndarray) -> None:
        place = np.unravel_index(np.abs(value).argmax(), value.shape)
        value[place] = -value[place]

    return {name: changed(model, name, turn) for name in names}


def numeric_of(folder: Path) -> list[str]:
    manifest = json.loads((folder / "bundle.json").read_bytes())
    return [each["name"] for each in manifest["signature"]["inputs"] if each["kind"] != "categorical"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a float32 bundle all of whose features are constrained, and the same network in exact arithmetic."""
    folder = tmp_path_factory.mktemp("monotone")
    frame = rows()[["carat", "age", "sold", "value"]].rename(columns={"value": "y"}).dropna()
    frame.to_csv(folder / "t.csv", index=False)
    flags = [*FLAGS, "--name", "m", "--models", str(folder / "models")]
    assert main([str(folder / "t.csv"), *QUICK, *flags]) == 0
    assert main(["exact", str(folder / "models" / "m" / "1")]) == 0
    return folder / "models" / "m" / "1", folder / "models" / "m" / "2"


@pytest.mark.parametrize("version", [0, 1])
def test_a_weight_of_the_wrong_sign_is_found_in_the_graph(bundles: tuple[Path, Path], version: int) -> None:
    """The check reads the written graph: it passes as written, and any one large weight that is turned fails it."""
    model, columns = (bundles[version] / "model.onnx").read_bytes(), numeric_of(bundles[version])
    features.check(model, columns, CONSTRAINTS)
    turned = flipped(model)
    assert len(turned) == 3
    for name, wrong in turned.items():
        with pytest.raises(ProofError, match=r"may go the wrong way where .* grows"):
            features.check(wrong, columns, CONSTRAINTS)
        assert unproved(wrong, [CONSTRAINTS[column] for column in columns]), name


def test_the_wrong_direction_is_named(bundles: tuple[Path, Path]) -> None:
    """Only the features that break their constraint are named; a feature that the graph lacks is refused."""
    model, columns = (bundles[0] / "model.onnx").read_bytes(), numeric_of(bundles[0])
    with pytest.raises(ProofError, match="wrong way where 'age' grows"):
        features.check(model, columns, {**CONSTRAINTS, "age": 1})
    with pytest.raises(ProofError, match="has no number or date 'colour'"):
        features.check(model, columns, {"colour": 1})


def test_the_bundle_the_report_and_prove_state_the_constraints(
    bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """bundle.json names them, the report says how they were checked, and `prove` checks them again, in either arithmetic."""
    for folder in bundles:
        found = json.loads((folder / "bundle.json").read_bytes())["provenance"]["monotone"]
        assert found == {"increasing": ["carat", "sold"], "decreasing": ["age"], "claim": features.CLAIM}
        assert features.CLAIM in (folder / "report.html").read_text()
        assert main(["prove", str(folder)]) == 0
        page = capsys.readouterr().out
        assert "no answer falls where one of these grows: carat, sold\n" in page
        assert "no answer rises where one of these grows: age\n" in page
        assert ("Proved exact" in page) == (folder == bundles[1])
        assert main(["prove", str(folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["monotone"] == found


def test_a_bundle_that_states_what_it_does_not_keep_is_not_proved(
    bundles: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`prove` and `exact` believe the weights, not bundle.json: status 1, and nothing is written."""
    folder = tmp_path / "m" / "1"
    shutil.copytree(bundles[0], folder)
    content = json.loads((folder / "bundle.json").read_bytes())
    content["provenance"]["monotone"]["increasing"].append("age")
    content["provenance"]["monotone"]["decreasing"] = []
    (folder / "bundle.json").write_bytes(seal({name: each for name, each in content.items() if name != "sha256"}))
    for command in ("prove", "exact"):
        assert main([command, str(folder)]) == 1
        assert "wrong way where 'age' grows" in capsys.readouterr().err
    assert [each.name for each in folder.parent.iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--increasing", "karat"], "--increasing names 'karat', but there is no such column: did you mean 'carat'?"),
        (["--increasing", "a,carat", "--decreasing", "carat"], "column 'carat' is named in both --increasing and --decreasing: choose one."),
        (["--decreasing", "y"], "--decreasing names 'y', which is the target: name features."),
        (["--increasing", ""], "--increasing names no column: name features, such as carat,depth, or leave it out."),
        (["--increasing", ","], "--increasing names no column: name features, such as carat,depth, or leave it out."),
        (["--increasing", "cut"], "--increasing names 'cut', which is categorical: only numbers and dates grow."),
        (["--increasing", "age", "--categorical", "age"], "--increasing names 'age', which is categorical"),
        (["--increasing", "carat", "--drop", "carat"], "column 'carat' is named in both --drop and --increasing: choose one."),
        (["--increasing", "age", "--weight", "age"], "--increasing names 'age', which is no feature"),
        (["--increasing", "same"], "--increasing names 'same', which is left out (constant): --keep keeps it."),
        (["--increasing", "carat", "--target", "cut"], "--increasing is for a number or two classes, but the target 'cut' has 3 classes, which have no order: leave it out."),
    ],
)  # fmt: skip
def test_what_cannot_be_constrained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    """Each is refused with one sentence and status 2, by training and by the comparison, and nothing is written."""
    frame = (
        rows()
        .rename(columns={"value": "y"})
        .drop(columns=["amount", "count", "good", "sold"])
        .assign(a=1.5 * np.arange(500), same=3)
    )
    frame.loc[frame["age"] == 0, "age"] = 1
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert main([str(tmp_path / "t.csv"), "--target", "y", *flags, "--models", str(tmp_path / "models")]) == 2
    found = capsys.readouterr().err
    assert sentence in found
    assert found.count("\n") == 1
    assert not (tmp_path / "models").exists()
    assert main(["compare", str(tmp_path / "t.csv"), "--target", "y", *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_an_empty_list_in_a_settings_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`increasing = []` says nothing, so it is a mistake."""
    (tmp_path / "s.toml").write_text("increasing = []\n")
    assert main(["t.csv", "--target", "y", "--settings", str(tmp_path / "s.toml")]) == 2
    assert "--increasing names no column" in capsys.readouterr().err


def test_booleans_read_as_numbers_grow_from_false_to_true(tmp_path: Path) -> None:
    """A column of true and false that is numeric may be constrained."""
    random = np.random.default_rng(0)
    flag = random.random(200) < 0.5
    frame = pd.DataFrame({"flag": np.where(flag, "true", "false"), "x": random.normal(size=200)})
    frame.assign(y=random.normal(size=200) - 2.0 * flag).to_csv(tmp_path / "t.csv", index=False)
    flags = ["--numeric", "flag", "--increasing", "flag", "--name", "m", "--models", str(tmp_path / "models")]
    assert main([str(tmp_path / "t.csv"), *QUICK, *flags]) == 0
    model = batchproof.load_model(tmp_path / "models" / "m" / "1")
    values = [[model.predict({"flag": each, "x": x})["value"] for each in (False, True)] for x in (-2.0, 0.0, 2.0)]
    assert (np.diff(values) >= 0.0).all()
