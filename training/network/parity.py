"""Parity of the stages: unfolded = folded in float64, folded = engine within float32's rounding.

The third parity, engine = HTTP, is bit for bit and needs a server: tests/line/test_line.py.
"""

import numpy as np

from batchproof.service.features.arrays import Outputs
from batchproof.training.network.fold import Folded, Output, predictions

FOLD_TOLERANCE = 1e-10  # of the scores' spread: folding reorders some hundred additions in float64
ENGINE_TOLERANCE = 1e-4  # of the scores' spread: no float32 sum of some thousand terms was seen to exceed it
ROUNDING = 1e-12  # of the greatest value: smaller differences come from the order of float64 sums
FLOAT32_STEP = 2.0**-23  # of the output itself: its last rounding


class ParityError(Exception):
    """Two stages that should compute the same function differ; the message says which, where and by how much."""


def check_fold(unfolded: np.ndarray, folded: np.ndarray, temperature: float, shift: np.ndarray | None = None) -> float:
    """Compare torch's float64 scores [rows, outputs] with the folded ones [rows, outputs]; returns the error.

    The error is the greatest difference in units of the scores' spread. A binary network has one output, L, and the
    folded network (0, L). `shift` [classes] was added to the folded scores.
    """
    added = 0.0 if shift is None else shift[1:] - shift[0] if unfolded.shape[1] == 1 else shift
    return _check("fold", unfolded / temperature + added, folded[:, -unfolded.shape[1] :], FOLD_TOLERANCE)


def check_engine(folded: Folded, reference: np.ndarray, outputs: Outputs) -> float:
    """Compare the float64 scores `reference` [rows, outputs] with the engine's outputs; returns the scores' error.

    Rows that an exact graph flags as saturated are outside its promise, and are left out.
    """
    if "saturated" in outputs:
        kept = ~outputs["saturated"][:, 0]
        reference, outputs = reference[kept], {name: array[kept] for name, array in outputs.items()}
    if folded.output.task == "regression":
        return _check("engine", *comparable(reference, outputs, folded.output), ENGINE_TOLERANCE)
    error = _check("engine", reference, outputs["scores"], ENGINE_TOLERANCE)
    # A probability moves by less than a quarter of the scores' difference.
    allowed = ENGINE_TOLERANCE * spread(reference) / 4 + FLOAT32_STEP
    gap = float(np.abs(predictions(reference, folded.output) - outputs["probabilities"]).max())
    if not gap <= allowed:
        raise ParityError(
            f"the engine's probabilities differ from those of the folded network by {gap:.2g}; at most {allowed:.2g} is allowed."
        )
    return error


def comparable(reference: np.ndarray, outputs: Outputs, output: Output) -> tuple[np.ndarray, np.ndarray]:
    """Return the wanted and the actual values and quantiles [rows, 1 + levels]; where the scores are logarithms, so are these.

    Those of several targets are [rows, targets], each in standard deviations of its own: a target in small units is held as well.
    """
    wanted = predictions(reference, output)
    actual = np.concatenate([outputs[name] for name in ("value", "quantiles") if name in outputs], axis=1)
    if output.targets > 1:
        std = np.asarray(output.value_std)
        return wanted / std, (actual / std).astype(actual.dtype)
    return (np.log(wanted), np.log(actual)) if output.is_log else (wanted, actual)


def spread(values: np.ndarray) -> float:
    """Return the greatest standard deviation of a column of values [rows, outputs]; 1 where only rounding varies."""
    std = float(values.std(axis=0).max())
    return std if std > ROUNDING * float(np.abs(values).max()) else 1.0


def _check(stage: str, wanted: np.ndarray, actual: np.ndarray, tolerance: float) -> float:
    unit = spread(wanted)
    gap = np.abs(wanted - actual)
    allowed = tolerance * unit + (FLOAT32_STEP * np.abs(wanted) if actual.dtype == np.float32 else 0.0)
    if not (gap <= allowed).all():
        row = int(np.argmax((gap - allowed).max(axis=1)))
        raise ParityError(
            f"the {stage} stage changed the network: row {row} differs by {gap[row].max() / unit:.2g} of the scores' "
            f"spread; at most {tolerance:g} is allowed."
        )
    return float(gap.max() / unit)
