"""The whole line: a table is trained on, exported and served, and torch, the engine and HTTP agree."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from batchproof.service.bundle import reader as bundles
from batchproof.service.features.columns import encode_columns
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.features.texts.text_cells import reader_of
from batchproof.service.inference.engine import Engine
from batchproof.training.data.tables.table import read
from batchproof.training.fit.progress import Progress
from batchproof.training.network import weights
from batchproof.training.network.fold import predictions
from batchproof.training.network.parity import ParityError
from batchproof.training.pipeline import Trained, train
from batchproof.training.settings import make
from tests.live import Live, live

ROWS = 240
QUICK = {"widths": (16, 8), "ensemble": 2, "epochs": 6, "encoding": "bins", "threads": 1, "device": "cpu"}
TARGETS = {"kind": "multiclass", "likes": "binary", "price": "regression"}


def write_table(path: Path) -> Path:
    """Write rows with every kind of column, missing values and three targets."""
    random = np.random.default_rng(0)
    size = random.normal(50, 20, ROWS)
    words = random.choice(["red", "green", "blue"], ROWS)
    lines = ["size,count,ready,word,town,day,kind,likes,price"]
    for row in range(ROWS):
        cells = [
            "" if row % 11 == 0 else f"{size[row]:.3f}",
            row % 9,
            row % 2 == 0,
            "" if row % 13 == 0 else words[row],
        ]
        cells += [f"town {row % 12}", f"2024-0{row % 9 + 1}-01T0{row % 10}:30:00Z", "abc"[int(size[row]) % 3]]
        cells += ["yes" if size[row] + row % 9 > 55 else "no", f"{size[row] * 1000 + random.normal():.2f}"]
        lines.append(",".join(str(cell) for cell in cells))
    path.write_text("\n".join(lines) + "\n")
    return path


def trained(folder: Path, target: str, **given: Any) -> Trained:
    """Train quickly on the table."""
    drop = tuple(name for name in TARGETS if name != target)
    settings = {"target": target, "drop": drop, "name": target, "models": str(folder / "models"), **QUICK, **given}
    return train(write_table(folder / "t.csv"), make(settings))


def json_rows(made: Trained, numbers: Sequence[int]) -> list[list[Any]]:
    """Return rows of the table as JSON values in signature order."""
    features = made.data.signature.inputs
    table = read(made.folder.parents[2] / "t.csv").arrow  # training keeps no cells
    rows = table.select([feature.name for feature in features]).take(list(numbers)).to_pylist()
    takes = [reader_of(feature) for feature in features]
    return [[take(cell) for take, cell in zip(takes, row.values(), strict=True)] for row in rows]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Train one model for each task, and one exact."""
    folder = tmp_path_factory.mktemp("line")
    made = {target: trained(folder, target) for target in TARGETS}
    return made | {"exact": trained(folder, "kind", name="exact", arithmetic="exact")}


@pytest.fixture(scope="module")
def server(models: dict[str, Trained]) -> Iterator[Live]:
    """Serve them."""
    with live(models["kind"].folder.parents[1]) as found:
        yield found


def predict(server: Live, name: str, rows: list[list[Any]]) -> list[Any]:
    """Ask for predictions."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request(
        "POST", f"/models/{name}/predict", json.dumps({"rows": rows}), {"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    assert response.status == 200, body
    predictions_: list[Any] = body["predictions"]
    return predictions_


@pytest.mark.parametrize("name", [*TARGETS, "exact"])
def test_http_gives_the_engines_bits(server: Live, models: dict[str, Trained], name: str) -> None:
    """Over HTTP each row gets the engine's own float32 bits, alone and in batches of 2, 17 and all."""
    made = models[name]
    arrays, rows = made.data.arrays["test"], json_rows(made, made.data.split.test)
    engine = Engine((made.folder / "model.onnx").read_bytes()).run(arrays)
    for size in (1, 2, 17, len(rows)):
        answers = [
            one for start in range(0, len(rows), size) for one in predict(server, name, rows[start : start + size])
        ]
        if made.data.target.classes is None:
            found = np.array([[answer["value"]] for answer in answers], np.float32)
            assert found.tobytes() == engine["value"].tobytes()
        else:
            found = np.array([list(answer["probabilities"].values()) for answer in answers], np.float32)
            assert found.tobytes() == engine["probabilities"].tobytes()
            labels = [made.data.target.classes[code] for code in found.argmax(axis=1)]
            assert [answer["label"] for answer in answers] == labels


@pytest.mark.parametrize("name", [*TARGETS, "exact"])
def test_http_gives_the_trained_networks_answers(server: Live, models: dict[str, Trained], name: str) -> None:
    """Over HTTP the answers are the float64 network's, folded from the trained one, to 1e-4 of its scores' spread."""
    made = models[name]
    kept = weights.read(made.folder / "weights.safetensors", made.data.target.task)
    arrays, rows = made.data.arrays["test"], json_rows(made, made.data.split.test)
    x = kept.preprocess.transform(arrays)  # type: ignore[arg-type]
    scores = kept.folded.scores(x, arrays.categorical)
    wanted = predictions(scores, kept.folded.output)
    answers = predict(server, name, rows)
    found = [[answer["value"]] if "value" in answer else list(answer["probabilities"].values()) for answer in answers]
    unit = kept.folded.output.value_std if made.data.target.classes is None else 1.0
    np.testing.assert_allclose(np.array(found) / unit, wanted / unit, rtol=1e-5, atol=1e-4 * scores.std())


@pytest.mark.parametrize("name", [*TARGETS, "exact"])
def test_the_bundle(models: dict[str, Trained], name: str) -> None:
    """A bundle says where it comes from and how well it does; its graph holds no batch norm; golden rows are no data."""
    made = models[name]
    read = bundles.read(made.folder)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load_from_string(read.model).graph.node}
    provenance = read.manifest.provenance
    assert provenance["data"] == {
        "file": "t.csv",
        "sha256": made.data.table.sha256,
        "rows": ROWS,
        "columns": 9,
    }
    assert sum(provenance["split"].values()) == ROWS
    assert (provenance["seed"], provenance["versions"]["onnx"]) == (0, onnx.__version__)
    assert provenance["parity"]["fold"] < 1e-10
    assert provenance["parity"]["engine"] < 1e-4
    assert read.manifest.metrics["rows"] == len(made.data.split.test)
    assert (read.manifest.arithmetic.kind == "exact") == (name == "exact")
    assert not {tuple(row) for row in json_rows(made, range(ROWS))} & {tuple(row) for row in read.golden.rows}


def test_the_services_arrays_are_trainings(models: dict[str, Trained]) -> None:
    """The service makes of the rows what training made of the columns."""
    made = models["kind"]
    rows = json_rows(made, made.data.split.train)
    served = Encoder(made.data.signature).encode_rows(rows).arrays
    by_name = dict(zip((f.name for f in made.data.signature.inputs), zip(*rows, strict=True), strict=True))
    for found in (served, encode_columns(made.data.signature, by_name)):
        for array, wanted in zip(found, made.data.arrays["train"], strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_the_same_bytes_again(tmp_path: Path, models: dict[str, Trained]) -> None:
    """The same table, settings and seed give the same model.onnx, golden.json and weights; another seed another."""
    again = trained(tmp_path, "kind")
    for name in ("model.onnx", "golden.json", "weights.safetensors"):
        assert (again.folder / name).read_bytes() == (models["kind"].folder / name).read_bytes(), name
    other = trained(tmp_path, "kind", seed=1)
    assert other.folder.name == "2"
    assert (other.folder / "model.onnx").read_bytes() != (again.folder / "model.onnx").read_bytes()


@pytest.mark.parametrize("stage", ["fold", "engine"])
def test_a_failing_check_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Where a stage is not the same function within its tolerance it is named, and no bundle is written."""
    monkeypatch.setattr(f"batchproof.training.network.parity.{stage.upper()}_TOLERANCE", -1.0)
    with pytest.raises(ParityError, match=f"the {stage} stage changed the network: row"):
        trained(tmp_path, "price")
    assert not list((tmp_path / "models").rglob("bundle.json"))


def test_without_gamma_and_beta(tmp_path: Path) -> None:
    """Without gamma and beta (affine = false) a network trains, folds and exports."""
    assert trained(tmp_path, "likes", affine=False).metrics["rows"] > 0


def test_a_quiet_line_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The columns, the test metrics and the folder are told even where epochs are not."""
    settings = make({"target": "kind", "models": str(tmp_path / "models"), **QUICK})
    folder = train(write_table(tmp_path / "t.csv"), settings, Progress(quiet=True)).folder
    said = capsys.readouterr().out
    assert "target 'kind': multiclass, 3 classes (the target is text)" in said
    assert f"wrote {folder} in " in said
    assert "epoch" not in said


COMMAND = [sys.executable, "-m", "batchproof.training"]
SLOW = ["--target", "kind", "--drop", "likes", "--drop", "price", "--encoding", "bins", "--widths", "32"]
SLOW += ["--epochs", "2000", "--patience", "2000", "--batch-rows", "16", "--threads", "1", "--device", "cpu"]


def started(folder: Path, *flags: str, root: Path) -> subprocess.Popen[str]:
    """Start a long training run in `folder` and return once its first epochs are done and its state was saved."""
    table = write_table(folder / "t.csv")
    process = subprocess.Popen(
        [*COMMAND, str(table), "--models", str(folder / "models"), *SLOW, *flags],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert any(line.startswith("epoch 100/") for line in process.stdout)
    return process


def test_ctrl_c(tmp_path: Path, root: Path) -> None:
    """The first Ctrl-C finishes the epoch and exports the best so far, with exit code 0."""
    process = started(tmp_path, root=root)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Stopping after this epoch" in said
    found = bundles.read(tmp_path / "models" / "t" / "1").manifest.provenance["epochs"]
    assert found["stopped"] == "interrupted"


def test_killed_and_resumed(tmp_path: Path, root: Path) -> None:
    """A killed run leaves no bundle; --resume goes on from its checkpoint, and only with the same settings."""
    process = started(tmp_path, root=root)
    process.kill()
    process.communicate()
    model = tmp_path / "models" / "t"
    assert not [path for path in model.iterdir() if not path.name.startswith(".")]
    refused = subprocess.run(
        [*COMMAND, str(tmp_path / "t.csv"), "--models", str(tmp_path / "models"), *SLOW, "--seed", "9", "--resume"],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert refused.returncode == 2
    assert "belongs to other data or settings" in refused.stderr
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path / "t.csv"), "--models", str(tmp_path / "models"), *SLOW, "--resume"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    assert process.stdout is not None
    first = next(line for line in process.stdout if line.startswith("epoch "))
    assert not first.startswith("epoch 1/")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    assert sorted(path.name for path in model.iterdir()) == ["1"]
