"""The readers in Java and in JavaScript read texts as the service does: the same bits, or a refusal."""

import csv
import datetime as dt
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from batchproof.service.bundle import reader
from batchproof.service.errors import BundleError
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.training.pipeline import train
from batchproof.training.settings import make
from tests import hard_texts
from tests.bundles import make_bundle, reseal
from tests.programs import command_of
from tests.service.server.web.browser.everywhere import HERE, PACKAGE, node_results, service_results, unpack_engine

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "examples" / "java").glob("*.java"))
JDK = "default-jdk-headless"
BEYOND_NUMBERS = "use a BigInt"  # what JavaScript says of a Number beyond 2^53, which the service reads exactly
SETTINGS = {
    "epochs": 2,
    "widths": (8,),
    "ensemble": 1,
    "encoding": "bins",
    "threads": 1,
    "target": "price",
    "name": "texts",
    "arithmetic": "exact",
    "decimal": ",",
    "thousands": ".",
    "date_format": ("sold=%d.%m.%Y", "seen=%b %d, %Y %I:%M %p"),
    "missing": ("k.A.", "area=-1"),
    "strip": True,
}
WRONG_RULES: list[tuple[int, Any]] = [  # the place of a feature, and its rule
    (0, {"decimals": ","}),
    (0, {"decimal": ";"}),
    (0, {"decimal": None}),
    (0, {"decimal": ",", "thousands": ","}),
    (0, {"thousands": "."}),
    (0, {"thousands": "-"}),
    (0, {"missing": "-999"}),
    (0, {"missing": ["x" * 1001]}),
    (0, {"missing": [1]}),
    (0, {"missing": None}),
    (0, {"affixes": [""]}),
    (0, {"affixes": ["x" * 101]}),
    (1, {"strip": 1}),
    (1, {"usual_missing": "no"}),
    (1, []),
    (3, {"date_format": ""}),
    (3, {"date_format": "%d/%m"}),
    (3, {"date_format": "%d %Y"}),
    (3, {"date_format": "%Y %Q"}),
    (3, {"date_format": "%Y %"}),
    (3, {"date_format": "%Y %Y"}),
    (3, {"date_format": "%b %B %Y"}),
    (3, {"date_format": "%z %z %Y"}),
]
Body = dict[str, Any]


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the reader and the program that prints what it makes of values."""
    folder = tmp_path_factory.mktemp("classes")
    sources = [*map(str, SOURCES), str(ROOT / "tests" / "java" / "Encoded.java")]
    subprocess.run([command_of(("javac",), JDK), "-Xlint:all", "-Werror", "-d", str(folder), *sources], check=True)
    return folder


@pytest.fixture(scope="module")
def asked() -> list[tuple[int, Any]]:
    """Return pairs of a feature's place and a value."""
    places = range(len(hard_texts.signature().inputs))
    return [(place, value) for place in places for value in hard_texts.values_of(place)]


@pytest.fixture(scope="module")
def wanted(asked: list[tuple[int, Any]]) -> list[str]:
    """Return what the service makes of each value."""
    readers = [hard_texts.ServiceReader(feature) for feature in hard_texts.signature().inputs]
    return [readers[place].result(value) for place, value in asked]


def is_utf_8(text: str) -> bool:
    """Return whether a text can be sent: half of a surrogate pair cannot."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def results_of(command: list[str], asked: list[tuple[int, Any]]) -> list[str]:
    lines = [json.dumps(hard_texts.signature().model_dump()), *map(json.dumps, asked)]
    ran = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, timeout=120, check=True)
    return ran.stdout.decode().split("\n")[:-1]


def test_the_cells_are_hard(wanted: list[str]) -> None:
    """The cells are read, missing, unseen and refused, thousands of each but the few codes."""
    refused = [result for result in wanted if result.startswith("refused")]
    numbers = {result for result in wanted if len(result) == len("7ff8000000000000")}

    assert len(refused) > 20_000
    assert len(numbers) > 1_000
    assert {"7ff8000000000000", "8000000000000000", "0", "1", "2", "3", "4", "5"} <= set(wanted)


def test_java_reads_texts_as_the_service_does(classes: Path, asked: list[tuple[int, Any]], wanted: list[str]) -> None:
    """Each value has the service's float64 or code in Java, to the last bit, or is refused by both."""
    found = results_of([command_of(("java",), JDK), "-cp", str(classes), "Encoded"], asked)
    pairs = zip(asked, wanted, found, strict=True)
    differences = [
        (value, service, java)
        for value, service, java in pairs
        if service != java and not (service.startswith("refused") and java.startswith("refused"))
    ]

    assert differences == []
    assert not any("Exception" in result for result in found)


def test_javascript_reads_texts_as_the_service_does(asked: list[tuple[int, Any]], wanted: list[str]) -> None:
    """Each value has the service's float64 or code in JavaScript, or its refusal word for word."""
    found = results_of([command_of(("node", "nodejs")), str(HERE / "cells.mjs"), str(PACKAGE)], asked)
    pairs = zip(asked, wanted, found, strict=True)
    differences = [(value, service, js) for value, service, js in pairs if service != js and BEYOND_NUMBERS not in js]

    assert differences == []
    assert sum(BEYOND_NUMBERS in result for result in found) < 10


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Body]]:
    """Train an exact model on a table with decimal commas, separators, units and dates; return its folder and the rows."""
    folder = tmp_path_factory.mktemp("texts")
    draw, rows = random.Random(3), []
    for place in range(400):
        amount, area = draw.lognormvariate(8, 1.5), draw.uniform(10, 200)
        sold = dt.date(2015, 1, 1) + dt.timedelta(days=draw.randrange(4000))
        seen = dt.datetime(2024, 2, 29, tzinfo=dt.UTC) + dt.timedelta(minutes=draw.randrange(10**6))
        written = f"{amount:,.2f}".translate(str.maketrans(",.", ".,"))
        row = {
            "amount": "k.A." if place % 17 == 0 else written,
            "area": "-1" if place % 13 == 0 else f"{area:.1f} m²".replace(".", ","),
            "sold": "" if place % 19 == 0 else sold.strftime("%d.%m.%Y"),
            "seen": seen.strftime("%b %d, %Y %I:%M %p"),
            "town": draw.choice(["Oslo", " Oslo", "Ærø ", "São Paulo"]),
        }
        price = amount / 100 + area + sold.toordinal() / 1000 + draw.gauss(0, 2)
        rows.append({**row, "price": f"{price:.2f}".replace(".", ",")})
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return train(folder / "table.csv", make({**SETTINGS, "models": str(folder / "models")})).folder, rows


def test_a_trained_bundle_answers_texts_as_the_service_does(
    classes: Path, trained: tuple[Path, list[Body]], tmp_path: Path
) -> None:
    """The cells of the table itself, sent as texts, and hard ones in their places have the answers of POST /predict."""
    folder, rows = trained
    features = reader.read(folder).manifest.signature.inputs
    rules = [feature.text_rule for feature in features]
    assert all(rules), "each column needs a rule"
    draw, names = random.Random(4), [feature.name for feature in features]
    good = [{name: row[name] for name in names} for row in rows]
    hard = [*filter(is_utf_8, hard_texts.CELLS), *hard_texts.VALUES]
    bodies = [{"rows": good}, *({"rows": [row]} for row in good[:40])]
    bodies += [{"rows": [draw.choice(good) | {draw.choice(names): value}]} for value in hard for _ in range(2)]
    answers = service_results(folder.parents[1], {"texts": bodies})["texts"]
    sent = "\n".join(map(json.dumps, bodies))
    command = [command_of(("java",), JDK), "-cp", str(classes), "Predict", str(folder)]
    ran = subprocess.run(command, input=sent.encode(), capture_output=True, timeout=120, check=False)
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    (in_node,) = node_results(
        command_of(("node", "nodejs")), unpack_engine(tmp_path), [{"bundle": str(folder), "calls": bodies}]
    )

    assert (ran.returncode, ran.stderr) == (1, b""), "1: bodies were refused"
    assert [one.get("predictions", "refused") for one in found] == [one.get("answer", "refused") for one in answers]
    assert in_node == answers
    assert sum("answer" in one for one in answers) > 100


def test_rules_that_the_page_does_not_allow_are_refused(classes: Path, tmp_path: Path) -> None:
    """The service and both readers refuse a bundle whose text_rule has another field, or another value, than the format has."""
    folders = [make_bundle(tmp_path, f"rule{number}") for number in range(len(WRONG_RULES))]
    jobs = [{"bundle": str(folder), "calls": [{"rows": []}], "tolerate": True} for folder in folders]
    for folder, (place, rule) in zip(folders, WRONG_RULES, strict=True):
        edit = {"text_rule": rule}
        reseal(folder, lambda content: content["signature"]["inputs"][place].update(edit))  # noqa: B023
        with pytest.raises(BundleError, match="text_rule"):
            model.load(reader.read(folder), EngineOptions(), 64)
        command = [command_of(("java",), JDK), "-cp", str(classes), "Predict", str(folder)]
        ran = subprocess.run(command, input='{"rows": []}', capture_output=True, timeout=60, check=False, text=True)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "text_rule" in ran.stderr or "the date format" in ran.stderr, (rule, ran.stderr)

    for (_, rule), [refused] in zip(
        WRONG_RULES, node_results(command_of(("node", "nodejs")), unpack_engine(tmp_path), jobs), strict=True
    ):
        assert refused["error"]["code"] == "invalid_bundle", rule
        assert "text_rule" in refused["error"]["message"]
