from pathlib import Path

import numpy as np
import pytest

from training import compare_command
from training.comparison import NETWORK, Score, folded, is_clear, verdict
from training.data import prepare
from training.rivals import RIVALS, constant
from training.settings import make


def score(method: str, *losses: float) -> Score:
    return Score(method, losses, 1.0)


def rivals(loss: float) -> list[Score]:
    return [score(name, loss, loss + 0.01, loss) for name in RIVALS]


def test_every_row_is_tested_once(root: Path) -> None:
    """Each fold splits all rows in three, its test rows are no other fold's, and classes keep their shares."""
    data = prepare(root / "examples" / "penguins.csv", make({"target": "species"}))
    splits = [fold.split for fold in folded(data, make({"target": "species"}), 4)]
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested.tolist()) == list(range(len(data.goal.y)))
    for split in splits:
        assert sorted(np.concatenate(split).tolist()) == list(range(len(data.goal.y)))
        shares = [np.bincount(data.goal.y[part]) / len(part) for part in split]
        assert shares[0] == pytest.approx(shares[2], abs=0.03)
        assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_constant_answers_with_the_class_shares(root: Path) -> None:
    """Every row gets the training rows' shares."""
    data = prepare(root / "examples" / "penguins.csv", make({"target": "species"}))
    answers = constant(data)
    assert answers.shape == (len(data.split.test), 3)
    assert answers[0] == pytest.approx(np.bincount(data.y("train")) / len(data.split.train))


def test_a_clearly_better_rival_is_recommended() -> None:
    """Where trees win in every fold by more than noise, the advice is not to use a network."""
    scores = [score("boosted trees", 0.2, 0.21, 0.19), score(NETWORK, 0.3, 0.31, 0.3), *rivals(0.9)[:2]]
    assert verdict(scores).startswith("Use boosted trees here: its loss is 34.1% below")


def test_a_tie_goes_to_what_is_simpler() -> None:
    """A difference within its error does not pay for a network."""
    scores = [score(NETWORK, 0.30, 0.40), score("a linear model", 0.41, 0.30), *rivals(0.9)[::2]]
    scores = [replaced for replaced in scores if len(replaced.losses) == 2] + [
        score("a constant", 0.9, 0.9),
        score("boosted trees", 0.9, 0.9),
    ]
    assert "not clearly better than a linear model" in verdict(scores)


def test_a_clearly_better_network_is_said_to_pay() -> None:
    """The gain is stated against the next best."""
    assert verdict([score(NETWORK, 0.1, 0.11, 0.1), *rivals(0.2)]).startswith("The network pays: its loss is 49.2%")


def test_a_steady_but_tiny_gain_decides_nothing() -> None:
    """Half a percent in every fold is no reason to choose."""
    assert not is_clear(score("a", 0.995, 0.995), score("b", 1.0, 1.0))
    assert is_clear(score("a", 0.9, 0.9), score("b", 1.0, 1.0))


def test_the_command_prints_every_method_and_advice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table names the network and its rivals, and ends in a sentence."""
    table = str(root / "examples" / "penguins.csv")
    assert compare_command.main([table, "--target", "species", "--folds", "2", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (NETWORK, *RIVALS, "log loss"))
    assert printed.strip().endswith(".")


def test_bad_requests_are_sentences(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown target and an impossible number of folds end with code 2."""
    table = str(root / "examples" / "penguins.csv")
    assert compare_command.main([table, "--target", "speces"]) == 2
    assert "species" in capsys.readouterr().err
    assert compare_command.main([table, "--target", "species", "--folds", "1"]) == 2
    assert "--folds is 1: use 2 to 86" in capsys.readouterr().err
