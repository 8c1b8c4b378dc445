"""The reference network as an exact bundle, behind the scaling that every trained model has.

python -m bench.make_exact build/bench
"""

import sys
from pathlib import Path

import numpy as np

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.service.inference.runner import Runner
from batchproof.training.export.exact import build as exact
from batchproof.training.network.fold import Folded, Layer, Member, Output
from batchproof.training.network.weights import Weights, maxima_of
from batchproof.training.preprocessing.numbers import scaling
from batchproof.training.preprocessing.preprocess import Preprocess
from bench.make_model import CLASSES, REFERENCE, arrays_of, layers, rows_of, write_bundle

SAMPLE_ROWS = 4096


def reference() -> tuple[Weights, np.ndarray]:
    """Return the reference network and the rows [rows, 32] float64 that its scaling and maxima come from."""
    numeric = arrays_of(REFERENCE, rows_of(REFERENCE, SAMPLE_ROWS, seed=3))["numeric"]  # [rows, 32] float64
    none = np.zeros(0, np.int64)
    preprocess = Preprocess(0, np.zeros(REFERENCE.numeric), none, none, scaling.fit(numeric))
    sizes = (REFERENCE.numeric, *REFERENCE.hidden, len(CLASSES))
    member = Member(tuple(Layer(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in layers(sizes)))
    folded = Folded((), (), (member,), Output("multiclass"))
    x = preprocess.transform(Arrays(numeric, None)).astype(np.float64)
    return Weights(preprocess, folded, maxima_of(folded, [(x, None)])), numeric


def write_exact(work: Path) -> None:
    """Write work/exact/reference/1: proved from its file, its accuracy measured on the drawn rows."""
    weights, numeric = reference()
    built = exact.build(weights)
    runner = Runner(Engine(built.model, EngineOptions(device="cpu")), run_rows=512)
    stated = exact.arithmetic(built, weights, runner, Arrays(numeric, None))
    write_bundle(REFERENCE, work / "exact", built.model, stated)


if __name__ == "__main__":
    write_exact(Path(sys.argv[1]))
