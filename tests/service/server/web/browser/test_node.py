"""The JavaScript package in Node: the answers of the service, in bits and in words, or a refusal."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof import __version__
from batchproof.service.bundle.files.checksum import seal
from batchproof.service.features import attribution
from tests.bundles import reseal
from tests.programs import command_of
from tests.service.server.web.browser.everywhere import (
    ENGINE,
    HERE,
    PACKAGE,
    Body,
    Made,
    good_bodies,
    make_models,
    node_results,
    odd_bodies,
    service_results,
    unpack_engine,
)

NODE = ("node", "nodejs")
TARBALL = Path(__file__).parents[5] / "constraints" / "npm_tarball.py"


@pytest.fixture(scope="module")
def node() -> str:
    """Return the program."""
    return command_of(NODE)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the module of the vendored engine."""
    return unpack_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def made(node: str, tmp_path_factory: pytest.TempPathFactory, penguins_bundle: Path) -> Made:
    """Train the models; without Node there is nothing to train them for."""
    del node
    return make_models(tmp_path_factory.mktemp("everywhere"), penguins_bundle)


def compare(node: str, engine: Path, made: Made, bodies: dict[str, list[Body]]) -> None:
    """Hold the results in Node to those of the service."""
    expected = service_results(made.models, bodies)
    jobs = [{"bundle": str(made.bundles[name]), "calls": asked} for name, asked in bodies.items()]
    for (name, asked), found in zip(bodies.items(), node_results(node, engine, jobs), strict=True):
        for body, wanted, result in zip(asked, expected[name], found, strict=True):
            assert result == wanted, (name, str(body)[:2000])


def test_exact_models_have_the_bits_of_the_service(node: str, engine: Path, made: Made) -> None:
    """Labels, probabilities, values, sets, intervals, explanations and details are equal, for rows alone and in batches of any size."""
    compare(node, engine, made, {name: good_bodies(folder) for name, folder in made.exact.items()})


def test_what_is_wrong_is_refused_in_the_words_of_the_service(node: str, engine: Path, made: Made) -> None:
    """Odd values are read alike; each refusal has the same code, sentence, rows and features."""
    compare(node, engine, made, {name: odd_bodies(folder) for name, folder in made.exact.items()})


@pytest.mark.parametrize("features", [1, 2, 6, 8, 9, 14, 30])
def test_explanations_are_planned_and_reduced_as_in_the_service(node: str, features: int) -> None:
    """For any number of features the mixed rows are the same, and the same scores give the same contributions, bit for bit."""
    plan = attribution.plan(features)
    scores = np.random.default_rng(features).normal(size=(plan.runs, 1)).astype(np.float32)
    given = [{"features": features, "scores": scores[:, 0].tolist()}]
    command = [node, str(HERE / "plans.mjs"), str(PACKAGE / "explanations.js")]
    ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60, check=True)
    (found,) = json.loads(ran.stdout)
    wanted = attribution.reduce(plan, scores)

    assert found["masks"] == plan.masks.tolist()
    assert found["steps"] == plan.steps.tolist()
    assert found["weights"] == plan.weights.tolist()
    assert found["values"] == wanted.values[0, :, 0].tolist()
    assert found["errors"] == wanted.errors[0, :, 0].tolist()


def test_float32_is_refused_unless_the_caller_tolerates_it(node: str, engine: Path, made: Made) -> None:
    """A float32 model predicts where its golden bits are reproduced, or where the caller takes what is near."""
    folder = made.bundles["rounded"]
    calls = [{"rows": json.loads((folder / "golden.json").read_bytes())["rows"]}]
    jobs = [{"bundle": str(folder), "calls": calls, "tolerate": tolerate} for tolerate in (False, True)]
    [strict], [near] = node_results(node, engine, jobs)
    wanted = service_results(made.models, {"rounded": calls})["rounded"][0]

    if "error" in strict:
        assert strict["error"]["code"] == "not_reproduced"
        assert "(the bits must be equal). Serve a bundle of exact arithmetic" in strict["error"]["message"]
    else:
        assert strict == wanted
    values = zip(near["answer"], wanted["answer"], strict=True)
    assert all(one["value"] == pytest.approx(other["value"], rel=1e-5, abs=1e-5) for one, other in values)


def changed(made: Made, folder: Path, name: str) -> Path:
    return Path(shutil.copytree(made.bundles[name], folder / name / "1"))


def refusal(node: str, engine: Path, bundle: Path) -> Body:
    """Return the refusal of a bundle, tolerated if it can be."""
    [[result]] = node_results(node, engine, [{"bundle": str(bundle), "calls": [{"rows": []}], "tolerate": True}])
    assert "error" in result, result
    error: Body = result["error"]
    return error


def test_other_golden_bits_are_refused(node: str, engine: Path, made: Made, tmp_path: Path) -> None:
    """An exact bundle whose stored outputs differ in one bit is refused, naming row and output, whatever is tolerated."""
    bundle = changed(made, tmp_path, "price")
    golden = json.loads((bundle / "golden.json").read_bytes())
    digits = golden["outputs"]["value"]["hex"]
    golden["outputs"]["value"]["hex"] = f"{int(digits[:2], 16) ^ 1:02x}" + digits[2:]
    (bundle / "golden.json").write_text(json.dumps(golden))
    reseal(bundle)
    error = refusal(node, engine, bundle)

    assert error["code"] == "not_reproduced"
    assert error["message"].startswith("golden row 0 gives value[0] = ")
    assert error["message"].endswith("(the bits must be equal).")


def edit_bundle(bundle: Path, edit: Any) -> None:
    content = json.loads((bundle / "bundle.json").read_bytes())
    edit(content)
    (bundle / "bundle.json").write_bytes(seal(content))


def test_damage_is_refused(node: str, engine: Path, made: Made, tmp_path: Path) -> None:
    """Any changed byte, and any field that the format does not have, is refused by name."""
    bundle = changed(made, tmp_path / "graph", "price")
    graph = bytearray((bundle / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(graph)
    assert "model.onnx has SHA-256" in refusal(node, engine, bundle)["message"]

    bundle = changed(made, tmp_path / "seal", "price")
    text = (bundle / "bundle.json").read_text()
    (bundle / "bundle.json").write_text(text.replace('"price"', '"pryce"', 1))
    assert "was changed since it was sealed" in refusal(node, engine, bundle)["message"]

    edits = {
        "unknown field signature.inputs.0.scale": lambda content: content["signature"]["inputs"][0].update(scale=2),
        "lacks the field task": lambda content: content.pop("task"),
        "signature.inputs.0.value_type": lambda content: content["signature"]["inputs"][0].update(value_type="date"),
        "does not fit a binary task": lambda content: content.update(task="binary"),
        "uncertainty.thresholds": lambda content: content["uncertainty"]["thresholds"].append([]),
    }
    for place, (message, edit) in enumerate(edits.items()):
        bundle = changed(made, tmp_path / str(place), "price")
        edit_bundle(bundle, edit)
        error = refusal(node, engine, bundle)
        assert error["code"] == "invalid_bundle"
        assert message in error["message"]

    bundle = changed(made, tmp_path / "twice", "price")
    text = (bundle / "bundle.json").read_text()
    (bundle / "bundle.json").write_text(text.replace('"format":', '"format": 1, "format":', 1))
    assert 'repeats the key "format"' in refusal(node, engine, bundle)["message"]


def test_what_json_cannot_hold(node: str) -> None:
    """NaN, BigInt, Date and typed arrays are read; the digits and the digest are right at every edge."""
    script = Path(__file__).with_name("edges.mjs")
    ran = subprocess.run([node, str(script), str(PACKAGE)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_the_tarball_is_the_package(node: str, engine: Path, made: Made, tmp_path: Path) -> None:
    """The same files give the same bytes; what npm would unpack is imported by its name and predicts."""
    for folder in ("one", "two"):
        subprocess.run([sys.executable, str(TARBALL), str(tmp_path / folder)], check=True, capture_output=True)
    first, second = (tmp_path / folder / f"batchproof-{__version__}.tgz" for folder in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()

    installed = tmp_path / "node_modules" / "batchproof"
    with tarfile.open(first) as archive:
        archive.extractall(tmp_path / "node_modules", filter="data")
    (tmp_path / "node_modules" / "package").rename(installed)
    assert (installed / "LICENSE").is_file()
    script = tmp_path / "use.mjs"
    script.write_text(
        'import { load } from "batchproof";\n'
        f"const ort = await import({json.dumps(engine.as_uri())});\n"
        f"const model = await load({json.dumps(made.bundles['penguins'].as_uri())}, {{ ort }});\n"
        "process.stdout.write(model.fingerprint.golden);\n"
    )
    ran = subprocess.run([node, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("bit for bit", "")


def test_the_package_names_the_engine_that_it_is_tested_with() -> None:
    """The vendored engine is a release that package.json allows, with its licence."""
    version = (ENGINE / "ort.wasm.min.mjs").read_text().partition("ONNX Runtime Web v")[2].partition("\n")[0]
    wanted = json.loads((PACKAGE / "package.json").read_bytes())["peerDependencies"]["onnxruntime-web"]
    assert wanted == f">={version}"
    assert "MIT License" in (ENGINE / "LICENSE").read_text()
