"""Make folded networks and fitted preprocessing for the tests of exact arithmetic: random, small, of every kind."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.signature import Task
from batchproof.service.features.arrays import Arrays
from batchproof.training.network.fold import Folded, Layer, Member, Output, activations, fold_head
from batchproof.training.preprocessing.fitting import Encoding, fit
from batchproof.training.preprocessing.preprocess import Preprocess

CODES = (3, 20)  # one column that is one-hot, one that is embedded


class Net(NamedTuple):
    """A folded network, its preprocessing, the rows it was fitted to and the channel maxima over them."""

    folded: Folded
    preprocess: Preprocess
    raw: Arrays
    x: np.ndarray  # [rows, width] float64
    maxima: list[list[np.ndarray]]

    def arrays(self, raw: Arrays | None = None) -> dict[str, np.ndarray]:
        """Return rows as the graph's inputs take them."""
        found = self.raw if raw is None else raw
        return {name: array for name, array in found._asdict().items() if array is not None}

    def scores(self) -> np.ndarray:
        """Return the float64 network's scores of its rows."""
        return self.folded.scores(self.x, self.raw.categorical)


def make_raw(rows: int, random: np.random.Generator, *, numeric: bool = True, categorical: bool = True) -> Arrays:
    """Draw rows with missing values, of very different scales."""
    numbers = random.normal(size=(rows, 4)) * np.array([1.0, 1e6, 1e-4, 30.0]) + np.array([0.0, 1e9, 0.0, -5.0])
    numbers[random.random(numbers.shape) < 0.05] = np.nan
    codes = np.stack([random.integers(0, count, rows) for count in CODES], axis=1)
    return Arrays(numbers if numeric else None, codes if categorical else None)


def make_net(
    task: Task = "multiclass",
    *,
    widths: tuple[int, ...] = (16, 12),
    classes: int = 3,
    members: int = 1,
    rows: int = 300,
    seed: int = 0,
    numeric: bool = True,
    categorical: bool = True,
    is_log: bool = False,
) -> Net:
    """Make a random network as folding would leave it, with activations of uneven scale; `is_log`: scores of a mean."""
    random = np.random.default_rng(seed)
    raw = make_raw(rows, random, numeric=numeric, categorical=categorical)
    target = random.integers(0, 2, rows).astype(np.float64)
    encoding = Encoding(bins=6, waves=numeric)
    preprocess = fit(raw, target, classes=task != "regression", encoding=encoding, dates=[1] if numeric else [])
    embedded = tuple(int(column) for column in preprocess.embedded)
    tables = tuple(random.normal(size=(CODES[column] + 2, 3)) for column in embedded)
    inputs = preprocess.width + sum(table.shape[1] for table in tables)
    outputs = {"binary": 1, "regression": 1, "multiclass": classes}[task]
    chains = tuple(make_member(random, (inputs, *widths, outputs), task, members) for _ in range(members))
    scale = Output(task, 20.5, 3.25) if task == "regression" else Output(task)
    scale = Output(task, 0.0, 3.25, is_log=True) if is_log else scale
    folded = Folded(embedded, tables, chains, scale)
    x = encode(preprocess, raw)
    first = folded.inputs(x, raw.categorical)
    maxima = [[hidden.max(axis=0) for hidden in activations(member, first)[:-1]] for member in chains]
    return Net(folded, preprocess, raw, x, maxima)


def make_member(random: np.random.Generator, widths: tuple[int, ...], task: Task, members: int) -> Member:
    """Make one chain of layers with channels of uneven scale, and a head."""
    layers = [
        Layer(
            random.normal(size=(out, inputs)) * np.exp(random.normal(size=(out, 1))) / np.sqrt(inputs),
            random.normal(size=out),
        )
        for inputs, out in pairwise(widths[:-1])
    ]
    head = random.normal(size=(widths[-1], widths[-2])), random.normal(size=widths[-1])
    return Member((*layers, fold_head(*head, task, divisor=members)))


def encode(preprocess: Preprocess, raw: Arrays) -> np.ndarray:
    """Return x [rows, width] float64, the preprocessing's nodes run on `raw`."""
    import onnxruntime

    from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

    graph = Graph()
    graph.output("x", preprocess.emit(graph, *preprocess.declare(graph)).x, TensorProto.DOUBLE, preprocess.width)
    session = onnxruntime.InferenceSession(graph.model("preprocess").SerializeToString())
    named = {each.name for each in session.get_inputs()}
    feeds = {name: array for name, array in raw._asdict().items() if array is not None and name in named}
    return np.asarray(session.run(["x"], feeds)[0])
