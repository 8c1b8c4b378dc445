"""The line from a table to a bundle: prepare -> fit -> freeze -> fold -> export -> check -> measure -> write."""

import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from service.engine import Engine, EngineOptions
from service.features import Arrays, Encoder
from service.runner import Runner
from training import (
    batchnorm,
    bundle,
    conformal,
    export,
    freeze,
    golden,
    leaks,
    metrics,
    parity,
    provenance,
    report,
    temperature,
)
from training import exact as exacts
from training import weights as weight_files
from training.checkpoint import Checkpoint
from training.data import Data, prepare
from training.exact_accuracy import reference_scores
from training.exact_graph import HEADROOM
from training.fitted import Fitted, fit_table
from training.fold import Output, predictions
from training.interruption import Interruption
from training.progress import Progress, duration
from training.settings import SettingError, Settings
from training.weights import Weights

RUN_ROWS = 8_192  # rows of one run of the engine while measuring
PARITY_ROWS = 4_096  # validation rows that the stages are compared on, at most
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Trained:
    """A written bundle and what its report says."""

    folder: Path
    data: Data
    metrics: dict[str, Any]  # on the test rows
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where the bundle goes."""

    models: Path
    name: str
    version: int

    @property
    def checkpoint(self) -> Path:
        """The file that --resume goes on from; hidden, so that no service takes it for a version."""
        return self.models / self.name / ".checkpoint.safetensors"


@dataclass(frozen=True)
class Exported:
    """The graph that will be served, and what held it to the network that was trained."""

    model: bytes
    weights: Weights
    runner: Runner
    parity: dict[str, float]  # stage -> greatest difference, in units of the scores' spread
    arithmetic: dict[str, Any]  # the manifest's: kind and, of an exact graph, certificate and accuracy


def train(path: Path, settings: Settings, progress: Progress | None = None) -> Trained:
    """Train on the table at `path` and write a bundle.

    Raises TableError, SettingError, CheckpointError, ParityError or WriteError, and then nothing was written.
    """
    start_s, progress = time.monotonic(), progress or Progress(quiet=True)
    place = place_of(path, settings)
    data = prepare(path, settings)
    findings = leaks.find(data.signature, data.arrays, data.goal, data.split)
    for line in (*data.lines(), *findings.lines(data.split)):
        progress.say(line)
    checkpoint = Checkpoint(
        place.checkpoint, {"data": data.table.sha256, "settings": asdict(settings) | {"resume": ""}}
    )
    with Interruption(progress.say) as interruption:
        fitted = fit_table(data, settings, progress, lambda: interruption.asked, checkpoint)
    progress.say("recomputing batch-norm statistics over all training rows, folding, checking")
    exported = export_checked(data, fitted)
    if settings.arithmetic == "exact":
        progress.say("exporting in exact arithmetic, proving it from the file")
        exported = in_exact_arithmetic(exported, data)
    outputs = {part: exported.runner.run([data.arrays[part]])[0] for part in ("validation", "test")}
    measured = measure(data, outputs["test"])
    seconds = time.monotonic() - start_s
    content = {
        "name": place.name,
        "version": place.version,
        "task": data.goal.task,
        "signature": data.signature.model_dump(mode="json"),
        "arithmetic": exported.arithmetic,
        "metrics": measured,
        "provenance": provenance.collect(data, settings, fitted, findings, exported.parity, seconds),
        "uncertainty": uncertainty(data, outputs),
    }
    files = {
        "model.onnx": exported.model,
        "golden.json": golden_file(data, settings, exported.runner),
        "report.html": report.render(content, fitted.result.history),
        "weights.safetensors": weight_files.serialise(exported.weights),
    }
    folder = bundle.write(place.models, content, files)
    checkpoint.remove()
    progress.say(f"test rows: {', '.join(f'{name} {value:.4g}' for name, value in measured.items() if name != 'rows')}")
    progress.say(f"wrote {folder} in {duration(seconds)}")
    return Trained(folder, data, measured, seconds)


def place_of(path: Path, settings: Settings) -> Place:
    """Return where the bundle will go; SettingError where the name is none, or the version is taken."""
    name = settings.name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.split(".")[0]).strip(".-_")
    if not NAME.fullmatch(name):
        raise SettingError(f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-' (--name).")
    models = Path(settings.models)
    version = settings.version or bundle.next_version(models, name)
    if (models / name / str(version)).exists():
        raise SettingError(f"version {version} of {name!r} exists already: bundles are never overwritten.")
    return Place(models, name, version)


def export_checked(data: Data, fitted: Fitted) -> Exported:
    """Freeze, fold and export; ParityError names the stage that changed the network."""
    rows, target = fitted.rows, fitted.target
    frozen = batchnorm.recompute(fitted.result.network, rows["train"])
    output = Output(data.goal.task, target.mean, target.std)
    unfolded = freeze.unfolded_scores(frozen, rows["validation"])
    divisor = temperature.fit(torch.from_numpy(unfolded), rows["validation"].y, target)
    folded = freeze.fold_network(frozen, fitted.preprocess.embedded.tolist(), output, divisor)
    model = export.export(fitted.preprocess, folded).SerializeToString()
    runner = Runner(Engine(model, EngineOptions(device="cpu")), RUN_ROWS)
    arrays = Arrays(*(None if array is None else array[:PARITY_ROWS] for array in data.arrays["validation"]))
    reference = folded.scores(rows["validation"].x[:PARITY_ROWS].numpy(), arrays.categorical)
    found = {
        "fold": parity.check_fold(unfolded[:PARITY_ROWS], reference, divisor),
        "engine": parity.check_engine(folded, reference, runner.run([arrays])[0]),
    }
    maxima = weight_files.maxima_of(folded, rows["train"].x.numpy(), data.arrays["train"].categorical)
    return Exported(model, Weights(fitted.preprocess, folded, maxima), runner, found, {"kind": "float32"})


def in_exact_arithmetic(exported: Exported, data: Data, headroom: float = HEADROOM) -> Exported:
    """Return the same network as a proved exact graph, measured on the test rows; ProofError where it is not exact."""
    weights, test = exported.weights, data.arrays["test"]
    exact = exacts.build(weights, headroom)
    runner = Runner(Engine(exact.model, EngineOptions(device="cpu")), RUN_ROWS)
    stated = exacts.arithmetic(exact, weights, runner, test)
    name = "value" if data.goal.classes is None else "probabilities"
    reference = predictions(reference_scores(weights, test), weights.folded.output)
    stated["accuracy"]["metrics"] = {
        "float64": measure(data, {name: reference}),
        "exact": measure(data, runner.run([test])[0]),
    }
    return replace(exported, model=exact.model, runner=runner, arithmetic=stated)


def measure(data: Data, outputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the metrics of the served outputs on the test rows, beside those of a constant guess."""
    y, train = data.y("test"), data.y("train")
    if data.goal.classes is None:
        found = metrics.regression(outputs["value"][:, 0], y, float(train.mean()))
    else:
        prior = np.bincount(train, minlength=len(data.goal.classes)) / len(train)
        found = metrics.classification(outputs["probabilities"], y, prior)
    return {"rows": len(y), **found}


def uncertainty(data: Data, outputs: dict[str, dict[str, np.ndarray]]) -> dict[str, Any] | None:
    """Return conformal thresholds from the validation rows, tested on the test rows; None with too few rows."""
    name = "value" if data.goal.classes is None else "probabilities"
    held, test = (outputs[part][name] for part in ("validation", "test"))
    if data.goal.classes is None:
        found = conformal.for_values(held[:, 0], data.y("validation"), test[:, 0], data.y("test"))
    else:
        found = conformal.for_classes(held, data.y("validation"), test, data.y("test"))
    return None if found is None else found.model_dump(mode="json")


def golden_file(data: Data, settings: Settings, runner: Runner) -> bytes:
    """Draw synthetic rows, encode them as the service will, and store the engine's bits."""
    rows = golden.draw(data.signature, data.columns, data.split.train, settings.golden_rows, settings.seed)
    encoded = Encoder(data.signature).encode_rows(rows)
    assert not encoded.errors, f"the service takes the rows that are drawn: {encoded.errors[:1]}"
    return golden.serialise(rows, runner.run([encoded.arrays])[0])
