"""What else `batchproof replay` answers: one decision in full, another version, and labels that came later."""

import csv
import html.parser
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from batchproof.service.__main__ import main
from batchproof.service.bundle import reader as bundles
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference import model as loading
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.journal import reader
from batchproof.service.journal.entries import Group, Notes, Source
from batchproof.service.journal.replaying import decision as one_decision
from batchproof.service.journal.values import shown
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.writer import Writer
from tests.bundles import INPUTS, make_bundle, random_rows, reseal, signature_of
from tests.programs import Browser, command_of

ROWS = random_rows(signature_of(), 60, seed=3)
FEWER = [*INPUTS[1:5], {**INPUTS[5], "categories": ["2", "77"]}, INPUTS[6]]  # other categories, one feature fewer


def loaded(folder: Path) -> Model:
    return loading.load(bundles.read(folder), EngineOptions("cpu"), 512)


def kept(model: Model, journal: Path, rows: list[list[Any]], left_out: Sequence[str] = ()) -> list[Any]:
    """Journal one request for each row, a day apart from the tenth on; returns the predictions."""
    manifest = model.manifest
    outputs = {tensor.name: (tensor.dtype, tensor.width) for tensor in manifest.outputs}
    features = [(feature.name, feature.kind) for feature in manifest.signature.inputs]
    about = Source(manifest.name, manifest.version, manifest.sha256, features, outputs, model.fingerprint, {}, left_out)
    journal.mkdir(exist_ok=True)
    writer, groups, predictions = Writer(Options(journal)), [], []
    for number, row in enumerate(rows):
        arrays = Encoder(manifest.signature).encode_rows([row]).arrays
        (ran,) = model.runner.run([arrays])
        predictions += model.decoder.decode(ran)
        time_s = 1.7e9 + (86400 if number >= 10 else 0)
        note = (f"id-{number}", "ada", "native", 1, None)
        groups.append(Group([(time_s, 1)], Notes.of([note]), arrays, ran))
    assert writer.write(about, groups) is None
    writer.close()
    return predictions


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three versions of `flowers`, the third with other features, and `price`."""
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder, "flowers", 1)
    make_bundle(folder, "flowers", 2, seed=5)
    make_bundle(folder, "flowers", 3, seed=5, inputs=FEWER)
    make_bundle(folder, "price", 1, task="regression")
    thresholds = {
        "method": "split-conformal", "calibration_rows": 99, "coverages": [0.8, 0.9], "edges": [],
        "thresholds": [[0.6, 0.9]], "tested": {},
    }  # fmt: skip
    for name in ("flowers/1", "price/1"):
        reseal(folder / name, lambda content: content.update(uncertainty=thresholds))
    return folder


@pytest.fixture(scope="module")
def journal(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journal")
    kept(loaded(models / "flowers" / "1"), folder, ROWS)
    return folder


def replayed(journal: Path, models: Path, capsys: pytest.CaptureFixture[str], *flags: str, status: int = 0) -> Any:
    assert main(["replay", str(journal), "--models", str(models), "--json", *flags]) == status
    return json.loads(capsys.readouterr().out)


def test_a_decision_is_shown_in_full(models: Path, journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One request shows its values by name, its answer, equal bits, contributions that sum, its model and its proof."""
    (decision,) = replayed(journal, models, capsys, "--id", "id-7")["decisions"]
    model = loaded(models / "flowers" / "1")
    values = {given["name"]: given["value"] for given in decision["inputs"]}
    notes = {given["name"]: given["note"] for given in decision["inputs"]}

    for feature, sent in zip(model.manifest.signature.inputs, ROWS[7], strict=True):
        if sent is None:
            assert (values[feature.name], notes[feature.name]) == (None, "missing")
        elif feature.kind == "categorical":
            text = {True: "true", False: "false"}.get(sent, str(sent))
            assert values[feature.name] == (text if text in (feature.categories or ()) else None)
        else:
            assert values[feature.name] == sent
    assert (decision["again"]["equal_alone"], decision["again"]["equal_in_batch"]) == (True, True)
    assert decision["again"]["batch_rows"] == 60 + len(model.bundle.golden.rows)
    explanation = decision["explanation"]
    total = sum(explanation["contributions"].values())
    assert math.isclose(total, explanation["score"] - explanation["baseline"], abs_tol=1e-5)
    assert decision["model"]["metrics"] == model.manifest.metrics
    assert decision["request"]["caller"] == "ada"
    assert decision["proof"]["now"] == "verified"


def test_a_wide_model_is_shown_without_contributions(
    models: Path, journal: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contributions cost the square of the features: beyond a number of them the rest of the decision is shown without."""
    monkeypatch.setattr(one_decision, "MOST_EXPLAINED", len(INPUTS) - 1)
    (shown_one,) = replayed(journal, models, capsys, "--id", "id-7")["decisions"]
    assert shown_one["explanation"] is None
    assert shown_one["again"]["equal_alone"] is True
    assert main(["replay", str(journal), "--models", str(models), "--id", "id-7"]) == 0


def test_a_segment_that_is_removed_meanwhile_has_no_rows(models: Path, tmp_path: Path) -> None:
    """A segment whose time was over after it was checked is passed over, and the others are read."""
    model = loaded(models / "flowers" / "1")
    for folder in ("gone", "stays"):
        kept(model, tmp_path / folder, ROWS[:1])
    segments = [part for folder in ("gone", "stays") for part in reader.check(tmp_path / folder)[0]]
    segments[0].path.unlink()
    found = one_decision.decisions(segments, lambda _: model, one_decision.Asked("id-0"))
    assert (found.total, len(found.rows)) == (1, 1)


def test_a_lone_row_runs_in_a_batch_too(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that was written alone is run again among others still: with the bundle's golden rows."""
    model = loaded(models / "flowers" / "1")
    kept(model, tmp_path / "journal", ROWS[:1])
    (decision,) = replayed(tmp_path / "journal", models, capsys, "--id", "id-0")["decisions"]
    assert decision["again"] == {
        "was_run": True, "equal_alone": True, "equal_in_batch": True, "batch_rows": 1 + len(model.bundle.golden.rows),
    }  # fmt: skip


def test_values_beyond_training_are_marked() -> None:
    """A number or a date outside the range of training says so, with the range; one within it, or on its edge, does not."""
    length = signature_of().inputs[0].model_copy(update={"range": (1.5, 20.0)})
    date = length.model_copy(update={"kind": "date", "range": (0.0, 86400.0)})
    assert shown(length, 20.0).note == ""
    assert shown(length, 20.5) == (20.5, "outside the range of training, 1.5 to 20")
    assert shown(length, -1.0).note == "outside the range of training, 1.5 to 20"
    assert shown(date, 86401.0).note == "outside the range of training, 1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z"


@pytest.mark.parametrize("left_out", [[], ["island"]])
def test_the_page_is_strict(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], left_out: list[str]
) -> None:
    """The page has no script and no address to load, its tags are balanced, and every text of the bundle is escaped."""
    evil = "<img src=x onerror=alert(1)>"
    inputs = [{**INPUTS[0], "name": evil}, *INPUTS[1:]]
    folder = make_bundle(tmp_path / "models", "evil", inputs=inputs)
    reseal(folder, lambda content: content["provenance"].update(data={"file": "<script>alert(1)</script>"}))
    kept(loaded(folder), tmp_path / "journal", ROWS[:3], left_out)
    target = tmp_path / "page.html"
    command = ["replay", str(tmp_path / "journal"), "--models", str(tmp_path / "models"), "--id", "id-1"]
    assert main([*command, "--html", str(target)]) == (1 if left_out else 0)
    page = target.read_text(encoding="utf-8")
    capsys.readouterr()

    opened: Counter[str] = Counter()

    class Tags(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            opened[tag] += 1
            assert not {"src", "onerror", "onload", "style"} & {name for name, _ in attrs}

        def handle_endtag(self, tag: str) -> None:
            opened[tag] -= 1

    Tags().feed(page)
    assert "script" not in opened
    assert "img" not in opened
    assert {tag for tag, count in opened.items() if count} <= {"meta", "link", "rect", "line"}
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'" in page
    assert ("left out of the journal" in page) == bool(left_out)
    assert ("every bit is equal" in page) != bool(left_out)


def test_the_page_is_read_by_a_browser(models: Path, journal: Path, tmp_path: Path) -> None:
    """Chromium shows the page: title, answer and proof are in its document under the page's strict policy."""
    target = tmp_path / "page.html"
    assert (
        main(["replay", str(journal), "--models", str(models), "--id", "id-7", "--row", "0", "--html", str(target)])
        == 0
    )
    browser = Browser(command_of(), tmp_path / "profile")
    dom = browser.dump_dom(target.as_uri(), "--window-size=390,844")

    assert "Decision id-7" in dom
    assert "every bit is equal" in dom


def test_another_version_is_compared(models: Path, journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The changed labels, the histogram and the worst rows are those that the two versions' own predictions have."""
    (compared,) = replayed(journal, models, capsys, "--against", "2")["comparisons"]
    then, now = (
        model.decoder.decode(model.runner.run([model.encoder.encode_rows(ROWS).arrays])[0])
        for model in map(loaded, (models / "flowers" / "1", models / "flowers" / "2"))
    )
    changes = Counter(
        (one["label"], other["label"]) for one, other in zip(then, now, strict=True) if one["label"] != other["label"]
    )
    apart = [
        max(abs(np.float32(one["probabilities"][name]).astype(float) - np.float32(share)) for name, share in other["probabilities"].items())
        for one, other in zip(then, now, strict=True)
    ]  # fmt: skip

    assert changes
    assert {(one["then"], one["now"]): one["rows"] for one in compared["changes"]} == changes
    assert (compared["rows"], compared["changed_labels"]) == (60, sum(changes.values()))
    assert sum(one["rows"] for one in compared["histogram"]) == 60
    assert [one["request_id"] for one in compared["worst"]] == [
        f"id-{row}" for row in np.argsort(-np.array(apart), kind="stable")[:10]
    ]
    assert math.isclose(compared["largest_difference"], max(apart), abs_tol=1e-12)
    assert main(["replay", str(journal), "--models", str(models), "--against", "2"]) == 0
    assert "60 rows, " in capsys.readouterr().out


def test_the_same_version_differs_nowhere(models: Path, journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A version against itself has every row in the bin of equal ones and no worst row."""
    (compared,) = replayed(journal, models, capsys, "--against", "1")["comparisons"]
    assert compared["histogram"] == [{"above": 0.0, "to": 0.0, "rows": 60}]
    assert (compared["worst"], compared["changed_labels"]) == ([], 0)


def test_rows_are_encoded_anew_for_another_signature(
    models: Path, journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a version with other features and categories each row is what a client's own values would be there."""
    (compared,) = replayed(journal, models, capsys, "--against", "3")["comparisons"]
    first, third = loaded(models / "flowers" / "1"), loaded(models / "flowers" / "3")
    names = [feature.name for feature in third.manifest.signature.inputs]
    then = first.decoder.decode(first.runner.run([first.encoder.encode_rows(ROWS).arrays])[0])
    rows = [[shown_again(first, row)[name] for name in names] for row in ROWS]
    now = third.decoder.decode(third.runner.run([third.encoder.encode_rows(rows).arrays])[0])

    assert compared["rows"] == 60
    assert compared["changed_labels"] == sum(a["label"] != b["label"] for a, b in zip(then, now, strict=True))
    assert compared["rows_with_unknown_categories"] == sum("elsewhere" in row or 77 in row for row in ROWS)


def shown_again(model: Model, row: list[Any]) -> dict[str, Any]:
    """Return a row as the journal can give it back: a category that was not known then is one that is not known now."""
    values = {}
    for feature, value in zip(model.manifest.signature.inputs, row, strict=True):
        values[feature.name] = 99 if value == 77 and feature.name == "grade" else value
    return values


def test_a_version_that_cannot_run_says_why(
    models: Path, journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version that is not there, or wants a feature that the journal has not, skips its rows with the reason; status 1."""
    (compared,) = replayed(journal, models, capsys, "--against", "9", status=1)["comparisons"]
    assert list(compared["skipped"].values()) == [60]
    assert "holds no flowers version 9" in next(iter(compared["skipped"]))
    kept(loaded(models / "flowers" / "3"), tmp_path / "fewer", [row[1:] for row in ROWS])
    (compared,) = replayed(tmp_path / "fewer", models, capsys, "--against", "1", status=1)["comparisons"]
    assert compared["skipped"] == {"the journal does not hold the feature 'length_mm'": 60}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_give_metrics_over_time(
    models: Path, journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Accuracy, log loss and coverage of each day are those computed from the predictions and the labels by hand."""
    model = loaded(models / "flowers" / "1")
    predictions = model.decoder.decode(model.runner.run([model.encoder.encode_rows(ROWS).arrays])[0])
    truth = ["red", "green", "blue"] * 20
    path = tmp_path / f"labels.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["request_id", "colour"])
            writer.writerows([f"id-{number}", label] for number, label in enumerate(truth) if number != 5)
    else:
        chosen = [number for number in range(60) if number != 5]
        columns = {"request_id": [f"id-{n}" for n in chosen], "row": [0] * 59, "colour": [truth[n] for n in chosen]}
        parquet.write_table(pa.table(columns), path)
    windows = replayed(journal, models, capsys, "--labels", str(path))["windows"]

    assert [(one["start"], one["answered"], one["labelled"]) for one in windows] == [
        ("2023-11-14", 10, 9),
        ("2023-11-15", 50, 50),
    ]
    for window, chosen in zip(windows, ([n for n in range(10) if n != 5], list(range(10, 60))), strict=True):
        shares = [predictions[n]["probabilities"][truth[n]] for n in chosen]
        hits = [predictions[n]["label"] == truth[n] for n in chosen]
        assert math.isclose(window["accuracy"], np.mean(hits))
        assert math.isclose(window["log_loss"], -np.mean(np.log(shares)), rel_tol=1e-5)
        covered = [1 - share <= 0.9 or hit for share, hit in zip(shares, hits, strict=True)]
        assert math.isclose(window["coverage"][1]["measured"], np.mean(covered))
        assert window["coverage"][1]["promised"] == 0.9


def test_values_give_errors_and_intervals(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a regression RMSE, MAE and the coverage of intervals are measured; a label that is no number is counted."""
    predictions = kept(loaded(models / "price" / "1"), tmp_path / "journal", ROWS)
    path = tmp_path / "labels.csv"
    off = [0.7, -0.1, *[0.0] * 57]
    lines = [f"id-{n},{predictions[n]['value'] + off[n]!r}" for n in range(59)]
    path.write_text("\n".join(["request_id,colour", *lines, "id-59,unknown"]))
    (window,) = replayed(tmp_path / "journal", models, capsys, "--labels", str(path), "--window", "all")["windows"]

    assert (window["labelled"], window["unknown_labels"]) == (59, 1)
    assert math.isclose(window["rmse"], math.sqrt((0.49 + 0.01) / 59), rel_tol=1e-4)
    assert math.isclose(window["mae"], 0.8 / 59, rel_tol=1e-4)
    assert [round(one["measured"] * 59) for one in window["coverage"]] == [58, 59]
    assert math.isclose(window["coverage"][0]["mean_width"], 1.2, rel_tol=1e-4)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("id,colour\nid-1,red\n", "no column request_id"),
        ("request_id,label\nid-1,red\n", "no column 'colour', which is the model's target"),
        ("request_id,colour\nid-1,red\nid-1,blue\n", "two labels for row 0 of request 'id-1'"),
        ("request_id,colour\nother,red\n", "no label belongs to a row of the journal"),
        ("request_id,row,colour\nid-1,first,red\n", "row must be a whole number"),
    ],
)
def test_labels_that_do_not_fit_are_one_sentence(
    models: Path, journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    """A file of labels that cannot be joined is refused with what is wrong."""
    path = tmp_path / "labels.csv"
    path.write_text(content)
    assert main(["replay", str(journal), "--models", str(models), "--labels", str(path)]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--html", "x.html"), "--html is about one request"),
        (("--row", "0"), "--row is about one request"),
        (("--against", "2", "--labels", "x.csv"), "two questions"),
        (("--labels", "absent.csv"), "the labels absent.csv cannot be read"),
        (("--id", "nobody", "--html", "x.html"), "no row of the journal matches"),
    ],
)
def test_flags_that_do_not_go_together(
    models: Path, journal: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], sentence: str
) -> None:
    """A question that makes no sense is one sentence and exit status 2."""
    assert main(["replay", str(journal), "--models", str(models), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_values_are_shown_as_people_write_them() -> None:
    """Codes are categories, missing or unseen; seconds are dates; 0 and 1 are true and false where they meant that."""
    length, island, count, seen, adult, grade, _ = signature_of().inputs
    assert shown(length, 31.5) == (31.5, "")
    assert shown(length, math.nan) == (None, "missing")
    assert [shown(island, code).value for code in (0, 1)] == ["Oslo", "Ærø"]
    assert [shown(island, code).note for code in (2, 3)] == ["missing", "a category that training did not see"]
    assert shown(count, 3.0).value == 3.0
    assert shown(seen, 1.7e9).value == "2023-11-14T22:13:20Z"
    assert shown(seen, -1e10 + 0.5).value == "1653-02-10T06:13:20.500000Z"
    assert shown(adult, 1.0).value is True
    assert re.fullmatch(r"-3", str(shown(grade, 2).value))
