"""--quick: a whole bundle within a budget of steps, by the same bits each time, and settings that hold beside it."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batchproof.training import pipeline
from batchproof.training.__main__ import main
from batchproof.training.estimators.estimator import BatchNormMLPClassifier
from batchproof.training.fit.checkpoint import Checkpoint
from batchproof.training.fit.context import Plan
from batchproof.training.fit.loop import Epoch, Run
from batchproof.training.fit.selection import defaults, quick
from batchproof.training.fit.selection.candidates import candidates_for
from batchproof.training.settings import Settings

SIZES = (2, 50, 999, 1_000, 5_000, 20_001, 30_000, 200_000, 5_000_000)
TABLE = "x,w,g,y\n" + "".join(f"{row * 7 % 23},{'ab'[row % 2]},{row // 4},{row // 3 % 2}\n" for row in range(160))


def run(folder: Path, *words: str) -> dict[str, Any]:
    """Train on a table in `folder` and return bundle.json."""
    table = folder / "t.csv"
    table.write_text(TABLE)
    models = folder / "models"
    before = set(models.glob("t/*"))
    assert main([str(table), "--target", "y", "--models", str(models), "--quiet", *words]) == 0
    (made,) = set(models.glob("t/*")) - before
    manifest: dict[str, Any] = json.loads((made / "bundle.json").read_text())
    return manifest


@pytest.mark.parametrize("rows", SIZES)
def test_the_budget_is_a_number_of_steps(rows: int) -> None:
    """One encoding; the steps of the table's size, rounded up to whole epochs; less than half of what the default fits in full."""
    (plan,) = candidates_for(rows, Settings(quick=True, device="cpu"))
    whole = candidates_for(rows, Settings(device="cpu"))[: None if rows <= defaults.FULL_ROWS else 1]
    steps = next(budget.steps for budget in quick.BUDGETS if rows <= budget.rows)
    batches = max(1, rows // plan.fit.batch_rows)
    assert plan.fit.epochs * batches < max(steps + batches, quick.EPOCHS[0] * batches + 1)
    assert work(plan) < sum(map(work, whole)) / 2
    assert plan.fit.patience == defaults.patience(plan.fit.epochs)


def work(plan: Plan) -> int:
    """Return how much a plan computes for each of its training rows, in hidden units."""
    return plan.fit.epochs * plan.network.members * sum(plan.network.widths)


def test_given_settings_hold() -> None:
    """What is given is what is fitted, and the rest stays quick."""
    given = Settings(
        quick=True,
        epochs=7,
        widths=(24, 16),
        ensemble=3,
        encoding="tree",
        batch_rows=77,
        learning_rate=0.5,
        device="cpu",
    )
    (plan,) = candidates_for(30_000, given)
    assert (plan.name, plan.network.widths, plan.network.members) == ("tree", (24, 16), 3)
    assert (plan.fit.epochs, plan.fit.batch_rows, plan.fit.learning_rate) == (7, 77, 0.5)
    assert plan.fit.average_decay == quick.fit_settings(30_000).average_decay


def test_a_quick_bundle_is_whole_and_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle says that it is quick, has all that others have, and comes out with the same bits again."""
    first, second = run(tmp_path, "--quick"), run(tmp_path, "--quick")
    assert first["provenance"]["settings"]["quick"] is True
    assert first["files"]["model.onnx"] == second["files"]["model.onnx"]
    said = capsys.readouterr().out

    other = run(tmp_path, "--epochs", "2", "--ensemble", "1")
    assert "quick" not in other["provenance"]["settings"]  # so that other bundles keep their bytes
    assert other.keys() == first.keys()
    assert other["files"].keys() == first["files"].keys()
    assert "A quick fit (--quick)" in (tmp_path / "models" / "t" / "1" / "report.html").read_text()

    line = said.splitlines()[-1]
    assert line.startswith("this was a quick fit: ")
    assert line.endswith(f"batchproof-train {tmp_path / 't.csv'} --target y --models {tmp_path / 'models'} --quiet")
    assert "quick fit" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("--group", "g"),
        ("--time", "g", "--memory", "1GB"),
        ("--arithmetic", "exact", "--class-weight", "balanced", "--threshold", "f1"),
        ("--tune", "2"),
    ],
)
def test_it_composes(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Groups, times, memory, exact arithmetic, weights of classes and a search take the quick plan as they take any other."""
    provenance = run(tmp_path, "--quick", "--epochs", "3", *words)["provenance"]
    assert provenance["settings"]["quick"] is True
    assert provenance["epochs"]["run"] == 3


class KilledError(Exception):
    """The end of a process, as far as the command is concerned."""


def test_a_killed_quick_fit_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--resume goes on from the checkpoint of a quick fit, to the bits of one that nothing happened to."""
    words = ("--quick", "--epochs", "4", "--ensemble", "2")
    undisturbed = run(tmp_path, *words)["files"]["model.onnx"]
    epoch, numbers = Run.epoch, list[int]()

    def dying(fit: Run) -> Epoch:
        numbers.append(len(fit.history) + 1)
        if numbers == [1, 2, 3]:
            raise KilledError
        return epoch(fit)

    monkeypatch.setattr(Run, "epoch", dying)
    monkeypatch.setattr(pipeline, "Checkpoint", partial(Checkpoint, interval_s=-1.0))
    with pytest.raises(KilledError):
        run(tmp_path, *words)
    assert run(tmp_path, *words, "--resume")["files"]["model.onnx"] == undisturbed
    assert numbers == [1, 2, 3, 3, 4]


def test_a_settings_file_may_ask_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the last line names the file, since no flag of the command says so."""
    file = tmp_path / "s.toml"
    file.write_text("quick = true\nepochs = 2\n")
    assert run(tmp_path, "--settings", str(file))["provenance"]["epochs"]["run"] == 2
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"The default fit: set quick = false in {file}")


def test_an_estimator_is_quick_too() -> None:
    """The parameter decides the plan as the flag does."""
    x = [[row * 7 % 23, row % 5] for row in range(120)]
    fitted = BatchNormMLPClassifier(quick=True, epochs=3, threads=1, device="cpu").fit(
        x, [row % 2 for row in range(120)]
    )
    chosen = fitted.model_.fitted.chosen
    assert chosen["name"] == quick.encodings(96)[0]
    assert (chosen["network"]["widths"], chosen["fit"]["epochs"]) == (quick.network_settings(96).widths, 3)


def test_a_run_loads_no_compiler(tmp_path: Path, root: Path) -> None:
    """Fitting loads neither torch's compiler nor the parts of scikit-learn that only `compare` needs: each takes seconds."""
    (tmp_path / "t.csv").write_text(TABLE)
    code = (
        "import sys; from batchproof.training.__main__ import main; "
        f"assert main([{str(tmp_path / 't.csv')!r}, '--target', 'y', '--quick', '--models', {str(tmp_path)!r}]) == 0; "
        "print([name for name in ('torch._dynamo', 'sympy', 'sklearn.ensemble', 'pyarrow.dataset') if name in sys.modules])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert said.splitlines()[-1] == "[]"
