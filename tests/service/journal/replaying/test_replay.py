"""Journalled rows run again: equal where nothing changed, and named where something did."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from batchproof.service.__main__ import main
from batchproof.service.bundle import reader as bundles
from batchproof.service.bundle.signing import keys
from batchproof.service.inference import model as loading
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.journal.entries import Group, Notes, Source
from batchproof.service.journal.segment import Sign
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.writer import Writer
from tests.bundles import make_bundle, random_rows, reseal


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder, "flowers", 1)
    make_bundle(folder, "price", 2, task="regression", seed=5)
    return folder


def answered(models: Path, journal: Path, requests: int = 40, change: Any = None, sign: Sign | None = None) -> Path:
    """Journal requests that both models answer, in batches of several; `change` may alter the outputs of one row."""
    journal.mkdir()
    writer = Writer(Options(journal), sign)
    for folder in sorted(models.glob("*/*")):
        model = loading.load(bundles.read(folder), EngineOptions("cpu"), 512)
        manifest = model.manifest
        outputs = {tensor.name: (tensor.dtype, tensor.width) for tensor in manifest.outputs}
        features = [(feature.name, feature.kind) for feature in manifest.signature.inputs]
        about = Source(manifest.name, manifest.version, manifest.sha256, features, outputs, model.fingerprint)
        parts, groups = [], []
        for number in range(requests):
            rows = 1 + number % 3
            parts.append(model.encoder.encode_rows(random_rows(manifest.signature, rows, number)).arrays)
        for number, (arrays, ran) in enumerate(zip(parts, model.runner.run(parts), strict=True)):
            kept = {name: values.copy() for name, values in ran.items()}
            if change is not None and number == 7:
                change(kept)
            rows = 1 + number % 3
            groups.append(
                Group(
                    [(1.7e9 + number, 1)],
                    Notes.of([(f"{manifest.name}-{number}", "", "native", rows, None)]),
                    arrays,
                    kept,
                )
            )
        for start in range(0, requests, 7):
            assert writer.write(about, groups[start : start + 7]) is None
    writer.close()
    return journal


def replayed(
    journal: Path, models: Path, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, dict[str, Any]]:
    code = main(["replay", str(journal), "--models", str(models), "--json", *flags])
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, shown


def test_every_row_is_equal_again(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that were answered in batches have the same bits alone and in other batches, and the command says how many."""
    journal = answered(models, tmp_path / "journal")
    code, shown = replayed(journal, models, capsys)

    assert code == 0
    assert {(one["model"], one["version"], one["rows"], one["equal"]) for one in shown["results"]} == {
        ("flowers", 1, 79, 79),
        ("price", 2, 79, 79),
    }
    assert main(["replay", str(journal), "--models", str(models)]) == 0
    assert "flowers version 1: 79 of 79 rows equal, alone and in batches" in capsys.readouterr().out


def test_a_changed_answer_is_named(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An answer that differs in one bit is named by its request, row and output, with both bits."""

    def one_bit(outputs: dict[str, np.ndarray]) -> None:
        name = min(outputs)
        outputs[name].view(np.uint32)[0, 0] ^= 1

    code, shown = replayed(answered(models, tmp_path / "journal", change=one_bit), models, capsys)
    assert code == 1
    for result in shown["results"]:
        (difference,) = result["differences"]
        assert difference[1] == f"{result['model']}-7"
        assert difference[4] != difference[5]
        assert result["equal"] == 78


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        (("--id", "flowers-5"), 3),
        (("--model", "price"), 79),
        (("--since", datetime.fromtimestamp(1.7e9 + 38, UTC).isoformat()), 8),
        (("--until", datetime.fromtimestamp(1.7e9 + 2, UTC).isoformat(), "--model", "flowers"), 3),
    ],
)
def test_rows_are_chosen(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], rows: int
) -> None:
    """Requests are chosen by id, time and model; nothing else is run."""
    code, shown = replayed(answered(models, tmp_path / "journal"), models, capsys, *flags)

    assert (code, sum(result["rows"] for result in shown["results"])) == (0, rows)


def test_another_bundle_is_not_the_one_that_answered(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle of the same name and version but another seal runs nothing: the rows are counted with the reason."""
    journal = answered(models, tmp_path / "journal")
    others = Path(shutil.copytree(models, tmp_path / "others"))
    reseal(others / "flowers" / "1", lambda content: content["metrics"].update(rows=5))
    shutil.rmtree(others / "price")
    code, shown = replayed(journal, others, capsys)

    assert code == 1
    why = {result["model"]: next(iter(result["skipped"])) for result in shown["results"]}
    assert "is not the bundle that answered" in why["flowers"]
    assert "holds no price version 2" in why["price"]
    assert all(result["equal"] == 0 for result in shown["results"])


def test_a_changed_segment_is_named(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A segment of which a byte was changed is named and not run; the others are."""
    journal = answered(models, tmp_path / "journal")
    path = next(journal.glob("flowers*.arrows"))
    raw = path.read_bytes()
    path.write_bytes(raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:])
    code, shown = replayed(journal, models, capsys)

    assert code == 1
    assert [problem["segment"] for problem in shown["problems"]] == [path.name]
    assert [result["model"] for result in shown["results"]] == ["price"]


def test_signed_journals(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --trusted-key every finished segment must be signed by one of the keys."""
    private = ec.generate_private_key(ec.SECP256R1())
    public = tmp_path / "journal.pub"
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, kind))
    journal = answered(models, tmp_path / "signed", sign=lambda message: keys.sign(private, message))
    assert replayed(journal, models, capsys, "--trusted-key", str(public))[0] == 0

    unsigned = answered(models, tmp_path / "unsigned")
    code, shown = replayed(unsigned, models, capsys, "--trusted-key", str(public))
    assert code == 1
    assert all("no signature of a trusted key" in problem["what"] for problem in shown["problems"])
    assert main(["replay", str(journal), "--models", str(models), "--trusted-key", str(tmp_path / "absent")]) == 2


def test_a_question_that_makes_no_sense(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No journal, no models, no such request: one sentence each and exit status 2."""
    journal = answered(models, tmp_path / "journal")
    for flags, sentence in (
        ([str(tmp_path / "absent")], "holds no journal"),
        ([str(journal), "--models", str(tmp_path / "absent")], "there is no"),
        ([str(journal), "--models", str(models), "--id", "nobody"], "no row of the journal matches"),
    ):
        assert main(["replay", *flags]) == 2
        assert sentence in capsys.readouterr().err


def test_each_of_several_targets_is_measured_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels have a column for each target and give metrics for each; a decision has an explanation for each, on the page too."""
    targets = ("height", "weight")
    folder = make_bundle(tmp_path / "models", "people", task="regression", targets=targets)
    thresholds = {"method": "split-conformal", "calibration_rows": 9, "coverages": [0.8], "edges": [], "tested": {}}
    each = [{**thresholds, "thresholds": [[half]]} for half in (1.0, 1e9)]
    reseal(folder, lambda content: content.update(uncertainties=each))
    journal = answered(tmp_path / "models", tmp_path / "journal", requests=12)
    lines = [f"people-{number},{row},{number},5" for number in range(12) for row in range(1 + number % 3)]
    (tmp_path / "labels.csv").write_text("request_id,row,height,weight\n" + "\n".join(lines))

    code, shown = replayed(
        journal, tmp_path / "models", capsys, "--labels", str(tmp_path / "labels.csv"), "--window", "all"
    )
    assert code == 0
    assert [(one["target"], one["labelled"], one["answered"]) for one in shown["windows"]] == [
        ("height", 24, 24),
        ("weight", 24, 24),
    ]
    assert [one["coverage"][0]["mean_width"] for one in shown["windows"]] == pytest.approx([2.0, 2e9])
    assert shown["windows"][1]["coverage"][0]["measured"] == 1.0
    assert len({one["rmse"] for one in shown["windows"]}) == 2

    page = tmp_path / "page.html"
    code, shown = replayed(journal, tmp_path / "models", capsys, "--id", "people-5", "--html", str(page))
    decision = shown["decisions"][0]
    assert (code, list(decision["prediction"]["values"])) == (0, list(targets))
    assert decision["explanation"] is None
    assert [one["of"] for one in decision["explanations"]] == list(targets)
    for one, value in zip(decision["explanations"], decision["outputs"]["value"], strict=True):
        assert one["baseline"] + sum(one["contributions"].values()) == pytest.approx(value, abs=1e-6)
    assert all(f"What each value adds to the {target}, from" in page.read_text() for target in targets)
    assert main(["replay", str(journal), "--models", str(tmp_path / "models"), "--id", "people-5"]) == 0
    assert "  answer: height " in capsys.readouterr().out


def test_another_version_is_compared_on_the_same_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The difference of a row is the largest of its targets; a version that predicts other targets is refused."""
    models = tmp_path / "models"
    make_bundle(models, "people", 1, task="regression", targets=("height", "weight"))
    journal = answered(models, tmp_path / "journal", requests=9)
    make_bundle(models, "people", 2, task="regression", targets=("height", "weight"), seed=3)
    make_bundle(models, "people", 3, task="regression", targets=("height", "age"))
    code, shown = replayed(journal, models, capsys, "--against", "2")
    (compared,) = shown["comparisons"]
    worst = compared["worst"][0]
    then, now = ([float(value) for value in worst[name].split(", ")] for name in ("then", "now"))
    assert (code, compared["rows"]) == (0, 18)
    assert worst["difference"] == pytest.approx(max(abs(a - b) for a, b in zip(then, now, strict=True)), rel=1e-4)
    assert main(["replay", str(journal), "--models", str(models), "--against", "3"]) == 2
    assert "version 3 predicts other targets" in capsys.readouterr().err
