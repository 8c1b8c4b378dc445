"""What a bundle is asked to be good at: from the command to bundle.json; without these settings it is what it was."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from batchproof.training.__main__ import main
from batchproof.training.settings import Settings
from tests.training.quick import quick

QUICK = [*quick("y", widths=8, epochs=2), "--quiet", "--name", "m"]
TABLE = "x,w,y\n" + "".join(f"{row * 7 % 23}.5,{1 + row % 3},{'aab'[row % 3]}\n" for row in range(120))


def trained(folder: Path, *flags: str) -> dict[str, Any]:
    """Train on the table with these flags and return bundle.json."""
    path = folder / "t.csv"
    path.write_text(TABLE)
    assert main([str(path), *QUICK, "--models", str(folder / "models"), *flags]) == 0
    content: dict[str, Any] = json.loads((folder / "models" / "m" / "1" / "bundle.json").read_bytes())
    return content


def test_what_is_not_asked_for_leaves_no_trace(tmp_path: Path) -> None:
    """A setting that is published only where it is set is absent from a bundle that does without."""
    content = trained(tmp_path, "--drop", "w")
    optional = {entry.name for entry in fields(Settings) if entry.metadata["where_set"]}

    assert optional >= {"weight", "class_weight", "metric", "skip_missing_target", "threshold", "group", "time"}
    assert not optional & set(content["provenance"]["settings"])
    assert content["format_version"] == 2
    assert not {"weighted_log_loss", "threshold", "precision"} & set(content["metrics"])
    assert "decision" not in content
    assert "split_by" not in content["provenance"]


def test_weights_and_metric_are_written(tmp_path: Path) -> None:
    """Settings of weights and of the metric are published, and the loss of the weighted rows stands beside the plain one."""
    content = trained(tmp_path, "--weight", "w", "--class-weight", "b=2", "--metric", "balanced_accuracy")
    settings = content["provenance"]["settings"]

    assert (settings["weight"], settings["class_weight"], settings["metric"]) == ("w", "b=2", "balanced_accuracy")
    assert content["signature"]["ignored"] == ["w"]
    assert content["metrics"]["weighted_log_loss"] != content["metrics"]["log_loss"]
    report = (tmp_path / "models" / "m" / "1" / "report.html").read_text()
    assert "--metric balanced_accuracy takes the place of the validation loss" in report
