"""A fitted network with the graph that will serve it, and the bundle it becomes: what command and estimators share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchproof.service.bundle.manifest import REFERENCE_FILE
from batchproof.service.features import examples
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.features.row_encoder import Encoder
from batchproof.training import report
from batchproof.training.data.dataset import Dataset
from batchproof.training.data.leakage import Findings
from batchproof.training.evaluation.evaluate import Evaluation
from batchproof.training.evaluation.threshold import Chosen
from batchproof.training.export import bundle_writer, golden, provenance, reference
from batchproof.training.export.compile import CompiledModel
from batchproof.training.export.destination import BundlePath
from batchproof.training.fit.context import Fitted
from batchproof.training.network import weights
from batchproof.training.settings import Settings


@dataclass(frozen=True)
class Model:
    """Fitted, folded, exported and checked for parity; not written yet."""

    data: Dataset
    settings: Settings
    fitted: Fitted
    compiled: CompiledModel
    parity: dict[str, float]  # stage -> greatest difference, in units of the scores' spread
    decided: Chosen | None = None  # the threshold of two classes, where one was asked for

    def run(self, arrays: Arrays) -> Outputs:
        """Return the outputs [rows, width] of the very graph and engine that will serve."""
        return self.compiled.run(arrays)


def write(model: Model, evaluation: Evaluation, findings: Findings, destination: BundlePath, seconds: float) -> Path:
    """Write the bundle and return its folder. Raises WriteError or InvarianceError."""
    data = model.data
    warnings = (*findings.lines(data.split), *evaluation.warnings, *data.warning_lines())
    content = {
        "name": destination.name,
        "version": destination.version,
        "task": data.target.task,
        "signature": data.signature.model_dump(),
        "arithmetic": evaluation.arithmetic,
        **({} if evaluation.decision is None else {"decision": evaluation.decision.model_dump()}),
        **({"quantiles": list(data.target.quantiles)} if data.target.quantiles else {}),
        "metrics": evaluation.metrics,
        "uncertainty": evaluation.uncertainty,
        **({} if evaluation.uncertainties is None else {"uncertainties": evaluation.uncertainties}),
        "provenance": provenance.collect(data, model.settings, model.fitted, warnings, model.parity, seconds),
    }
    rows = _synthetic_rows(model)
    facts = report.collect(data.measured(), model.fitted, model.compiled, evaluation, content, _example(data, rows))
    content["metrics"] = {**evaluation.metrics, **facts.metrics}
    files = {
        "model.onnx": model.compiled.model,
        "golden.json": _golden(model, rows),
        REFERENCE_FILE: _reference(model, evaluation.outputs),
        "report.html": report.render(facts),
        "weights.safetensors": weights.serialise(model.compiled.weights),
    }
    return bundle_writer.write(destination.models, content, files)


def _synthetic_rows(model: Model) -> list[list[Any]]:
    """Draw the rows of golden.json."""
    data, settings = model.data, model.settings
    return golden.draw(data.signature, data.columns, data.split.train, settings.golden_rows, settings.seed)


def _example(data: Dataset, rows: list[list[Any]]) -> dict[str, Any]:
    """Return a synthetic row by name, as an example for people."""
    return examples.named(data.signature, examples.rows(data.signature, rows)[0])


def _reference(model: Model, outputs: Outputs) -> bytes:
    """Return the statistics of the training rows, and of the outputs for the rows that metrics are measured on."""
    data = model.data
    return reference.serialise(data.signature, data.arrays["train"], outputs, model.settings.rare_rows)


def _golden(model: Model, rows: list[list[Any]]) -> bytes:
    """Encode synthetic rows as the service will, and store the engine's bits."""
    encoded = Encoder(model.data.signature).encode_rows(rows)
    assert not encoded.errors, f"the service accepts the rows that are drawn: {encoded.errors[:1]}"
    return golden.serialise(rows, model.run(encoded.arrays))
