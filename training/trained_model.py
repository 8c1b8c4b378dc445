"""A fitted network with the graph that will serve it, and the bundle it becomes: what command and estimator share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchproof.service.features import examples as samples
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.features.encoder import Encoder
from batchproof.training import report
from batchproof.training.data import leakage as leaks
from batchproof.training.data.dataset import Dataset
from batchproof.training.data.leakage import Findings
from batchproof.training.evaluation import evaluate as measured
from batchproof.training.export import bundle_writer as bundle
from batchproof.training.export import compile as exported
from batchproof.training.export import golden, provenance
from batchproof.training.export.compile import CompiledModel
from batchproof.training.export.destination import BundlePath
from batchproof.training.fit.checkpoint import Checkpoint
from batchproof.training.fit.context import Fitted
from batchproof.training.fit.progress import Progress
from batchproof.training.fit.selection.fit_table import fit_table
from batchproof.training.network import weights
from batchproof.training.settings import Settings


@dataclass(frozen=True)
class Model:
    """Fitted, folded, exported and held to parity; nothing is written yet."""

    data: Dataset
    settings: Settings
    fitted: Fitted
    made: CompiledModel

    def run(self, arrays: Arrays) -> Outputs:
        """Return the outputs [rows, width] of the very graph and engine that will serve."""
        return self.made.run(arrays)

    def write(self, place: BundlePath, seconds: float, findings: Findings | None = None) -> tuple[Path, dict[str, Any]]:
        """Write the bundle; returns its folder and what bundle.json says. Raises WriteError or InvarianceError."""
        data = self.data
        if findings is None:
            findings = leaks.find(data.signature, data.arrays, data.goal, data.split)
        content = self._content(place)
        content["provenance"] = provenance.collect(
            data, self.settings, self.fitted, findings, self.made.parity, seconds
        )
        drawn = self._drawn()
        facts = report.collect(data, self.fitted, self.made, content, self._example(drawn))
        files = {
            "model.onnx": self.made.model,
            "golden.json": self._golden(drawn),
            "report.html": report.render(facts),
            "weights.safetensors": weights.serialise(self.made.weights),
        }
        return bundle.write(place.models, content, files), content

    def _content(self, place: BundlePath) -> dict[str, Any]:
        """Return what bundle.json says, but for the provenance."""
        data = self.data
        outputs = {part: self.run(data.arrays[part]) for part in ("validation", data.judged)}
        return {
            "name": place.name,
            "version": place.version,
            "task": data.goal.task,
            "signature": data.signature.model_dump(mode="json"),
            "arithmetic": measured.arithmetic(data, self.made),
            "metrics": measured.metrics_of(data, outputs[data.judged]),
            "uncertainty": measured.uncertainty(data, outputs),
        }

    def _drawn(self) -> list[list[Any]]:
        """Draw the synthetic rows of golden.json."""
        data, settings = self.data, self.settings
        return golden.draw(data.signature, data.columns, data.split.train, settings.golden_rows, settings.seed)

    def _example(self, rows: list[list[Any]]) -> dict[str, Any]:
        """Return a synthetic row by name, as an example for people."""
        signature = self.data.signature
        return samples.named(signature, samples.rows(signature, rows)[0])

    def _golden(self, rows: list[list[Any]]) -> bytes:
        """Encode synthetic rows as the service will, and store the engine's bits."""
        encoded = Encoder(self.data.signature).encode_rows(rows)
        assert not encoded.errors, f"the service takes the rows that are drawn: {encoded.errors[:1]}"
        return golden.serialise(rows, self.run(encoded.arrays))


def fit(
    data: Dataset,
    settings: Settings,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    checkpoint: Checkpoint | None = None,
) -> Model:
    """Fit to the training rows, fold and export. Raises CheckpointError, SettingError, ParityError or ProofError."""
    fitted = fit_table(data, settings, progress, stop, checkpoint)
    progress.say("recomputing batch-norm statistics over all training rows, folding, checking")
    return Model(data, settings, fitted, exported.make(data, fitted, settings.arithmetic))
