"""Share of rows whose bits change with the batch, by engine and batch size: `python -m bench.invariance_table`.

One batch-norm MLP, folded and exported by this project, run by several engines on the same rows, on one thread. A row
has changed when any byte of its output in a batch is not the byte that it gets alone. `--write docs` puts the table
into docs/invariance.md and the picture beside it.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions, cpu_features
from batchproof.service.inference.runner import Runner
from batchproof.training.export.exact.build import build
from batchproof.training.export.float32 import export
from batchproof.training.network.fold import Folded, Member, Norm, Output, fold_block, fold_head
from batchproof.training.network.weights import Weights, maxima_of
from batchproof.training.preprocessing.fitting import Encoding, fit
from bench.heatmap import heatmap

WIDTHS = (32, 256, 256, 3)
ROWS = 2000
SIZES = (2, 3, 4, 7, 8, 16, 17, 32, 64, 128, 256, 512, 2000)
NO_PREPACKING = (("session.disable_prepacking", "1"),)

Run = Callable[[np.ndarray], np.ndarray]  # rows [n, 32] float64 -> outputs [n, 3]


class Contender(NamedTuple):
    """One way to run the network."""

    engine: str
    arithmetic: str
    run: Run


def network(seed: int = 0) -> torch.nn.Sequential:
    """Return a batch-norm MLP with statistics as training leaves them, in eval mode."""
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS[:-1]):
        norm = torch.nn.BatchNorm1d(outputs)
        torch.nn.init.uniform_(norm.running_mean, -0.3, 0.3)
        torch.nn.init.uniform_(norm.running_var, 0.2, 1.5)
        layers += [torch.nn.Linear(inputs, outputs, bias=False), norm, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(WIDTHS[-2], WIDTHS[-1])).eval()


def fold(net: torch.nn.Sequential) -> Folded:
    """Return the network without batch norm, as the exporters take it."""
    layers = []
    for linear, norm in zip(net[0:-1:3], net[1:-1:3], strict=True):
        statistics = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        gamma, beta, mean, var = (tensor.detach().double().numpy() for tensor in statistics)
        layers.append(fold_block(linear.weight.detach().double().numpy(), Norm(mean, var, norm.eps, gamma, beta)))
    head = net[-1]
    layers.append(fold_head(head.weight.detach().numpy(), head.bias.detach().numpy(), "multiclass"))
    return Folded((), (), (Member(tuple(layers)),), Output("multiclass"))


def contenders(rows: np.ndarray) -> list[Contender]:
    """Return the ways to run, all of one network; `rows` stand for the training rows."""
    net = network()
    folded = fold(net)
    preprocess = fit(Arrays(rows, None), np.zeros(len(rows)), classes=True, encoding=Encoding(edges=None))
    float32 = export(preprocess, folded).SerializeToString()
    x = preprocess.transform(Arrays(rows, None))
    exact = build(Weights(preprocess, folded, maxima_of(folded, [(x, None)]))).model
    return [
        Contender("torch, eval mode", "float32", lambda batch: torch_run(net, batch)),
        Contender("NumPy", "float32", lambda batch: numpy_run(folded, batch.astype(np.float32))),
        Contender("NumPy", "float64", lambda batch: numpy_run(folded, batch)),
        Contender("onnxruntime, prepacking disabled", "float32", engine_run(float32, NO_PREPACKING)),
        Contender("the same, runs padded to 16 rows", "float32", engine_run(float32, NO_PREPACKING, 16)),
        Contender("onnxruntime, as Batchproof runs it", "float32", engine_run(float32)),
        Contender("onnxruntime, prepacking disabled", "exact", engine_run(exact, NO_PREPACKING)),
        Contender("onnxruntime, as Batchproof runs it", "exact", engine_run(exact)),
    ]


def torch_run(net: torch.nn.Sequential, batch: np.ndarray) -> np.ndarray:
    """Run the unfolded network."""
    with torch.inference_mode():
        found: np.ndarray = net(torch.from_numpy(batch.astype(np.float32))).numpy()
    return found


def numpy_run(folded: Folded, batch: np.ndarray) -> np.ndarray:
    """Run the folded layers in the dtype of `batch`."""
    layers = folded.members[0].layers
    a = batch  # [n, width]
    for layer in layers[:-1]:
        a = np.maximum(a @ layer.weight.astype(a.dtype).T + layer.bias.astype(a.dtype), 0)
    return a @ layers[-1].weight.astype(a.dtype).T + layers[-1].bias.astype(a.dtype)


def engine_run(model: bytes, entries: tuple[tuple[str, str], ...] = (), tile_rows: int | None = None) -> Run:
    """Return the run of an exported model, on the processor and one thread."""
    runner = Runner(Engine(model, EngineOptions(device="cpu", entries=entries)), ROWS, tile_rows)
    return lambda batch: runner.run([Arrays(batch, None)])[0]["scores"]


def shares(run: Run, rows: np.ndarray, sizes: Sequence[int]) -> list[float]:
    """Return, for each batch size, the share of rows with other bytes than alone; rows beyond full batches are left."""
    lone = np.concatenate([run(rows[row : row + 1]) for row in range(len(rows))])
    return [_share(run, rows, lone, size) for size in sizes]


def _share(run: Run, rows: np.ndarray, lone: np.ndarray, size: int) -> float:
    full = len(rows) // size * size
    batched = np.concatenate([run(rows[start : start + size]) for start in range(0, full, size)])
    same = (batched.view(np.uint8) == lone[:full].view(np.uint8)).reshape(full, -1).all(axis=1)
    return float(1 - same.mean())


def markdown(found: Sequence[tuple[Contender, Sequence[float]]]) -> str:
    """Return the table."""
    lines = [f"| engine | arithmetic | {' | '.join(map(str, SIZES))} |", f"|---|---|{'---:|' * len(SIZES)}"]
    for one, changed in found:
        lines.append(f"| {one.engine} | {one.arithmetic} | {' | '.join(percent(share) for share in changed)} |")
    return "\n".join(lines)


def percent(share: float) -> str:
    """Return a share in words that keep 0 apart from almost 0, and 1 from almost 1."""
    if share in (0.0, 1.0):
        return "0" if share == 0 else "100 %"
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def main() -> None:
    """Measure, print, and write where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.invariance_table", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="DOCS", help="folder of invariance.md and its picture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = np.random.default_rng(0).normal(size=(ROWS, WIDTHS[0]))
    found = [(one, shares(one.run, rows, SIZES)) for one in contenders(rows)]
    host = (
        f"torch {torch.__version__.split('+')[0]}, NumPy {np.__version__}, processor with {', '.join(cpu_features())}"
    )
    print(markdown(found), host, sep="\n\n")
    if arguments.write:
        page = arguments.write / "invariance.md"
        between = r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)"
        table = f"{markdown(found)}\n"
        page.write_text(re.sub(between, lambda _: table, page.read_text(), flags=re.DOTALL))
        labels = [(f"{one.engine}, {one.arithmetic}", changed) for one, changed in found]
        (arguments.write / "invariance.svg").write_text(heatmap("Rows whose bits change with the batch", SIZES, labels))


if __name__ == "__main__":
    main()
