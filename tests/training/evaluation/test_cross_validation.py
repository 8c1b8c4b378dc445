from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batchproof.service.features.arrays import Arrays
from batchproof.training.cli import compare as compare_command
from batchproof.training.data.dataset import prepare
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.evaluation import baselines as rivals
from batchproof.training.evaluation.baselines import BASELINES, constant, trees
from batchproof.training.evaluation.cross_validation import (
    NETWORK,
    Score,
    check_classes,
    is_clear,
    network,
    split_into_folds,
    verdict,
)
from batchproof.training.settings import make


def score(method: str, *losses: float) -> Score:
    return Score(method, losses, 1.0)


SCORES = [score(NETWORK, 1.0, 1.0), score(next(iter(BASELINES)), 2.0, 2.0)]


def test_every_row_is_tested_once(root: Path) -> None:
    """Each fold splits all rows in three, its test rows are no other fold's, and classes keep their shares."""
    data = prepare(root / "examples" / "penguins.csv", make({"target": "species"}))
    splits = [fold.split for fold in split_into_folds(data, make({"target": "species"}), 4)]
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested.tolist()) == list(range(len(data.target.y)))
    for split in splits:
        assert sorted(np.concatenate(split).tolist()) == list(range(len(data.target.y)))
        shares = [np.bincount(data.target.y[part]) / len(part) for part in split]
        assert shares[0] == pytest.approx(shares[2], abs=0.03)
        assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_constant_answers_with_the_class_shares(root: Path) -> None:
    """Every row gets the training rows' shares."""
    data = prepare(root / "examples" / "penguins.csv", make({"target": "species"}))
    answers = constant(data)
    assert answers.shape == (len(data.split.test), 3)
    assert answers[0] == pytest.approx(np.bincount(data.y("train")) / len(data.split.train))


def test_the_network_and_the_trees_keep_constraints(tmp_path: Path) -> None:
    """Where only a constrained feature grows, neither rises with a decreasing one; both do so without the constraint."""
    random = np.random.default_rng(0)
    x, k = random.normal(size=300), random.choice(["a", "b"], 300)
    lines = [f"{a:.3f},{b},{random.normal() - 0.3 * a:.3f}" for a, b in zip(x, k, strict=True)]
    (tmp_path / "t.csv").write_text("x,k,y\n" + "\n".join(lines) + "\n")
    chosen = {"target": "y", "widths": (16,), "ensemble": 1, "encoding": "bins", "epochs": 20, "learning_rate": 0.02}
    for constraint, is_kept in (({"decreasing": ("x",)}, True), ({}, False)):
        settings = make(chosen | constraint)
        data = prepare(tmp_path / "t.csv", settings)
        fold = next(split_into_folds(data, settings, 3))
        tested = fold.arrays["test"]
        assert tested.numeric is not None
        assert tested.categorical is not None
        swept = Arrays(np.sort(tested.numeric, axis=0), np.zeros_like(tested.categorical))
        fold = replace(fold, arrays={**fold.arrays, "test": swept})
        for answers in (network(fold, settings), trees(fold)):
            assert (np.diff(answers) <= 1e-12).all() == is_kept


@pytest.mark.parametrize("least, threads", [(200_000, 1), (0, None)])
def test_trees_of_a_small_table_grow_on_one_thread(
    root: Path, monkeypatch: pytest.MonkeyPatch, least: int, threads: int | None
) -> None:
    """Threads are shared out from so many values on; a smaller table is given one."""
    asked: list[int | None] = []

    def record(limits: int | None, user_api: str) -> nullcontext[None]:
        assert user_api == "openmp"
        asked.append(limits)
        return nullcontext()

    monkeypatch.setattr(rivals, "LEAST_SHARED", least)
    monkeypatch.setattr(rivals, "MOST_ROUNDS", 1)
    monkeypatch.setattr(rivals, "threadpool_limits", record)
    rivals.trees(prepare(root / "examples" / "penguins.csv", make({"target": "species"})))
    assert asked == [threads]


def ranked(**losses: tuple[float, ...]) -> list[Score]:
    """Return scores of the four methods, least loss first."""
    names = {"constant": "a constant", "linear": "a linear model", "trees": "boosted trees", "network": NETWORK}
    scores = [score(names[short], *values) for short, values in losses.items()]
    return sorted(scores, key=lambda each: each.loss)


FAR_OFF = (0.9, 0.91, 0.9, 0.9, 0.91)


def test_a_clearly_better_rival_is_recommended() -> None:
    """Where trees win in every fold by more than noise, the advice is trees, with the paired difference."""
    trees, network = (0.20, 0.21, 0.19, 0.2, 0.2), (0.30, 0.31, 0.3, 0.3, 0.3)
    said = verdict(ranked(constant=FAR_OFF, linear=FAR_OFF, trees=trees, network=network))
    assert said == "Use boosted trees: its loss is 0.1 ± 0.002 below that of the network, the second best."


def test_a_tie_goes_to_what_is_simplest() -> None:
    """A difference within its error does not pay for a network, nor for trees."""
    linear, network = (0.40, 0.35, 0.41, 0.36, 0.4), (0.35, 0.40, 0.36, 0.41, 0.38)
    said = verdict(ranked(constant=FAR_OFF, linear=linear, trees=network, network=network))
    assert said.startswith("Use a linear model: it is the simplest that is not clearly worse than ")
    assert "(its loss is 0.004 ± " in said


def test_a_model_far_behind_is_not_recommended_for_its_noise() -> None:
    """Two folds do not tell trees of three times the loss from the best, but they are no advice; the linear model is."""
    scores = ranked(constant=(1.0, 1.1), linear=(0.10, 0.11), trees=(0.15, 0.50), network=(0.105, 0.1))
    said = verdict(scores)
    assert said.startswith("Use a linear model")
    assert "2 folds cannot show that boosted trees is worse" in said
    assert said.endswith("2 folds are few: use --folds 10 before you rely on this.")


def test_a_clearly_better_network_is_recommended() -> None:
    """The gain is stated against the second best."""
    trees, network = (0.20, 0.21, 0.2, 0.2, 0.2), (0.10, 0.11, 0.1, 0.1, 0.1)
    said = verdict(ranked(constant=FAR_OFF, linear=FAR_OFF, trees=trees, network=network))
    assert said.startswith("Use the network: its loss is 0.1 ± ")


def test_a_steady_but_tiny_gain_decides_nothing() -> None:
    """Half a percent in every fold is no reason to choose."""
    assert not is_clear(score("a", 0.995, 0.995), score("b", 1.0, 1.0))
    assert is_clear(score("a", 0.9, 0.9), score("b", 1.0, 1.0))


def test_the_command_prints_every_method_and_advice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table names the network and its rivals, and ends in a sentence."""
    table = str(root / "examples" / "penguins.csv")
    assert compare_command.main([table, "--target", "species", "--folds", "2", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (NETWORK, *BASELINES, "log loss"))
    assert printed.strip().endswith(".")


@pytest.mark.parametrize("rows", [1, 2])
def test_a_class_that_a_fold_cannot_learn_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int
) -> None:
    """A class of one or two rows, which a fold trains without, is one sentence with its name, and not a traceback."""
    path = tmp_path / "t.csv"
    labels = ["c"] * rows + ["a", "b"] * 60
    path.write_text("x,y\n" + "".join(f"{row * 7 % 50},{label}\n" for row, label in enumerate(labels)))

    if rows == 1:
        assert compare_command.main([str(path), "--target", "y", "--folds", "3"]) == 2
        assert capsys.readouterr().err.startswith("batchproof-train compare: class 'c' has 1 of 121 rows")
    data = prepare(path, make({"target": "y"}))
    refusals = []
    for seed in range(10):
        try:
            check_classes(data, seed, 3)
        except TableError as error:
            refusals.append(str(error))
    assert refusals
    start = f"class 'c' has {rows} of {120 + rows} rows, and a fold trains without any of them"
    assert all(refusal.startswith(start) for refusal in refusals)


def test_a_light_run_fits_the_network_as_asked(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--quick, --epochs, --ensemble and --encoding mean what they mean in training."""
    seen = []
    monkeypatch.setattr(
        "batchproof.training.evaluation.cross_validation.compare",
        lambda _, settings, *__: seen.append(settings) or SCORES,
    )
    table = str(root / "examples" / "penguins.csv")
    light = ["--epochs", "5", "--ensemble", "1", "--encoding", "plain"]
    assert compare_command.main([table, "--target", "species", *light]) == 0
    assert (seen[0].epochs, seen[0].ensemble, seen[0].encoding, seen[0].quick) == (5, 1, "plain", False)
    assert compare_command.main([table, "--target", "species", "--quick"]) == 0
    assert seen[1].quick
    assert compare_command.main([table, "--target", "species", "--epochs", "0"]) == 2
    assert "--epochs is 0: it must be between 1 and 1000000." in capsys.readouterr().err


def test_bad_requests_are_sentences(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown target and an impossible number of folds end with code 2."""
    table = str(root / "examples" / "penguins.csv")
    assert compare_command.main([table, "--target", "speces"]) == 2
    assert "species" in capsys.readouterr().err
    assert compare_command.main([table, "--target", "species", "--folds", "1"]) == 2
    assert "--folds is 1: use 2 to 86" in capsys.readouterr().err
