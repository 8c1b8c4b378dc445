"""examples/java reads a bundle and answers as the service does, in a JDK without any package."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle import reader
from tests.bundles import make_bundle, random_rows, reseal
from tests.programs import command_of
from tests.service.server.web.browser.everywhere import good_bodies, make_models, service_results

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "examples" / "java").glob("*.java"))
PACKAGE = "default-jdk-headless"
ADDED = re.compile(r'\.add\(\s*"([A-Z][A-Za-z]+)"')
CASE = re.compile(r'case "([A-Z][A-Za-z]+)"')
Body = dict[str, Any]


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the reader; a warning is an error."""
    folder = tmp_path_factory.mktemp("classes")
    javac = command_of(("javac",), PACKAGE)
    subprocess.run([javac, "-Xlint:all", "-Werror", "-d", str(folder), *map(str, SOURCES)], check=True)
    return folder


def java(classes: Path, bundle: Path, bodies: list[Body] | str) -> tuple[int, list[Body], str]:
    """Return the exit status, the answers and what was said on standard error."""
    given = bodies if isinstance(bodies, str) else "\n".join(map(json.dumps, bodies))
    command = [command_of(("java",), PACKAGE), "-cp", str(classes), "Predict", str(bundle)]
    ran = subprocess.run(
        command, input=given, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False
    )
    return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines()], ran.stderr


def bodies_of(bundle: Path) -> list[Body]:
    """Return rows alone, in batches of any size, as lists and objects and in another order, with a coverage where there is one."""
    content = reader.read(bundle)
    known = ("rows", "columns", "coverage") if content.manifest.coverages else ("rows", "columns")
    bodies = [{field: body[field] for field in known if field in body} for body in good_bodies(bundle)]
    return [*bodies, {"rows": random_rows(content.manifest.signature, 300, seed=3)}]


def test_exact_bundles_have_the_answers_of_the_service(classes: Path, tmp_path: Path, penguins_bundle: Path) -> None:
    """Labels, sets, intervals and every digit of an exact bundle's numbers are those of POST /predict, in any batch."""
    made = make_models(tmp_path, penguins_bundle)
    bodies = {name: bodies_of(folder) for name, folder in made.exact.items()}
    wanted = service_results(made.models, bodies)
    for name, folder in made.exact.items():
        status, found, said = java(classes, folder, bodies[name])
        assert (status, said) == (0, "")
        assert [one["predictions"] for one in found] == [one["answer"] for one in wanted[name]]


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_float32_bundles_are_near(classes: Path, tmp_path: Path, task: str) -> None:
    """A float32 bundle's golden rows come out within the tolerance, and so do its predictions."""
    folder = make_bundle(tmp_path, task=task)
    bodies, name = bodies_of(folder), reader.read(folder).manifest.name
    _, found, _ = java(classes, folder, bodies)
    wanted = service_results(folder.parents[1], {name: bodies})[name]

    def numbers(answers: list[Any]) -> list[float]:
        return [
            number
            for answer in answers
            for one in answer
            for number in ([one["value"]] if "value" in one else one["probabilities"].values())
        ]

    np.testing.assert_allclose(
        numbers([one["predictions"] for one in found]), numbers([one["answer"] for one in wanted]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            {"length_mm": "long"},
            "feature 'length_mm': expected a number, got \"long\"",
        ),
        ({"length_mm": 1e400}, "not JSON"),
        ({"count": None}, "feature 'count': a missing value is not allowed"),
        ({"adult": 7}, "feature 'adult': expected true, false, 1 or 0, got 7"),
        ({"grade": 1.5}, "feature 'grade': expected a whole number, got 1.5"),
        ({"island": 3}, "feature 'island': expected a string, got 3"),
        ({"seen": "29.02.2024"}, "feature 'seen': expected an ISO 8601 date"),
        ({"seen": "2023-02-29"}, "feature 'seen': the date does not exist"),
        ({"lenght_mm": 3}, "unknown feature 'lenght_mm'; the features are length_mm, island"),
    ],
)
def test_wrong_rows_are_refused_in_a_sentence(classes: Path, tmp_path: Path, row: Body, sentence: str) -> None:
    """What is wrong with a row is said with its number and its feature; other bodies are answered."""
    folder = make_bundle(tmp_path)
    names = [feature.name for feature in reader.read(folder).manifest.signature.inputs]
    good = dict(zip(names, [44.5, "Oslo", 3, "2020-02-29", True, 1, None], strict=True))
    status, found, said = java(classes, folder, [{"rows": [good]}, {"rows": [good, good | row]}])

    assert status == 1
    assert sentence in (said if row == {"length_mm": 1e400} else found[1]["error"]["message"])
    assert "Exception" not in said
    if len(found) > 1:
        assert found[0]["predictions"][0]["label"] in ("red", "green", "blue")
        assert found[1]["error"]["message"].startswith("row 1")


@pytest.mark.parametrize("file", ["bundle.json", "model.onnx", "golden.json"])
def test_changed_bytes_are_refused(classes: Path, tmp_path: Path, file: str) -> None:
    """A bundle with a changed byte in a file that is read is not used."""
    folder = make_bundle(tmp_path)
    content = bytearray((folder / file).read_bytes())
    place = content.index(b"0.25") if file == "bundle.json" else len(content) // 2
    content[place + 2] ^= 1
    (folder / file).write_bytes(content)
    status, found, said = java(classes, folder, '{"rows": []}')

    assert (status, found) == (1, [])
    assert said.startswith(f"refused: {file} was changed")


def test_other_golden_outputs_are_refused(classes: Path, tmp_path: Path) -> None:
    """Where the golden rows come out otherwise, the number and its place are named."""
    folder = make_bundle(tmp_path, task="multiclass")
    golden = json.loads((folder / "golden.json").read_bytes())
    stored = bytearray.fromhex(golden["outputs"]["scores"]["hex"])
    stored[14] ^= 1  # of the fourth number: in the third digit
    golden["outputs"]["scores"]["hex"] = stored.hex()
    (folder / "golden.json").write_text(json.dumps(golden))
    reseal(folder)
    status, _, said = java(classes, folder, '{"rows": []}')

    assert status == 1
    assert said.startswith("refused: golden row 1 gives scores[0] = ")


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content["signature"].update(inputs=[1]),
        lambda content: content["signature"]["inputs"].pop(),
        lambda content: content.update(signature=None),
        lambda content: content.update(format_version=99),
    ],
)
def test_a_sealed_bundle_that_does_not_follow_the_page_is_refused(classes: Path, tmp_path: Path, edit: Any) -> None:
    """Fields of another type or number end in one sentence, never in a stack trace."""
    folder = make_bundle(tmp_path)
    reseal(folder, edit)
    status, found, said = java(classes, folder, '{"rows": []}')

    assert (status, found) == (1, [])
    assert said.startswith("refused: ")
    assert said.count("\n") == 1


def test_the_reader_has_the_operators_that_training_writes() -> None:
    """Each operator that training appends to a graph is one of the reader's, and stands on the page of the format."""
    written = {op for path in (ROOT / "training").rglob("*.py") for op in ADDED.findall(path.read_text())}
    page = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")

    assert written <= set(CASE.findall((ROOT / "examples" / "java" / "Graph.java").read_text()))
    assert len(written) > 20
    assert [op for op in sorted(written) if not re.search(rf"\b{op}\b", page)] == []
