"""Prove random graphs, and run those that are certified in every engine: the bits of a row must always be the same.

    python -m bench.prove_fuzz --graphs 100000 --seed 1 [--findings FOLDER]

Each certified graph runs on rows with every edge of the inputs' types in every column: in onnxruntime at each
optimisation level, with one and (one graph in eight) two threads, in batches of 1 to 40 rows at several positions; in
the reference evaluator of ONNX; and in NumPy with every sum in an order drawn anew, where every tensor must also lie
in the interval, and on the grid, that the prover derived. A graph is the same for the same seed and number. Exit
status 1 where there is a finding.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as engine

from batchproof.training.prove import ProofError
from batchproof.training.prove.box import Box, grid_of
from batchproof.training.prove.proof import Proof, walk
from bench.numpy_graph import evaluate
from bench.random_graphs import FLOATS, INTEGERS, draw

LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
BLOCK = 1_000  # graphs of one child, after which figures are printed
SIZES = (1, 1, 2, 3, 7, 16)
ENGINE_ERRORS = (
    *(engine.EPFail, engine.Fail, engine.InvalidArgument, engine.InvalidGraph, engine.NotImplemented),
    engine.RuntimeException,
)
Feeds = dict[str, np.ndarray]


class Finding(Exception):  # noqa: N818 a finding is what is looked for
    """A certified graph that does not keep the promise."""


class Outcome(NamedTuple):
    """What became of one graph."""

    certified: bool
    nodes: int = 0
    reason: str = ""  # why it was refused, its numbers left out


def main(arguments: list[str]) -> int:
    """Run the graphs in a process of their own, begun again where it dies; print figures."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.prove_fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=10_000, help="how many graphs to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first graph")
    parser.add_argument("--findings", type=Path, default=Path("build/findings"), help="folder for graphs that fail")
    chosen = parser.parse_args(arguments)
    onnxruntime.set_default_logger_severity(4)
    counts: Counter[str] = Counter()
    start, number, last = time.monotonic(), chosen.first, chosen.first + chosen.graphs
    while number < last:
        number = run_block(chosen, number, min(number + BLOCK, last), counts)
        print(figures(counts, time.monotonic() - start), flush=True)
    for reason, count in counts.most_common(40):
        if reason.startswith("refused: "):
            print(f"{count:>9}  {reason}")
    return 1 if counts["findings"] else 0


def run_block(chosen: argparse.Namespace, first: int, last: int, counts: Counter[str]) -> int:
    """Run graphs first … last - 1 in a child; returns the number of the next graph."""
    context = multiprocessing.get_context("fork")
    place, results = context.Value("q", first), context.Queue()
    child = context.Process(target=run_child, args=(chosen, last, place, results))
    child.start()
    counted: Counter[str] = Counter()
    while child.is_alive() or not results.empty():
        try:
            counted = results.get(timeout=0.2)
        except multiprocessing.queues.Empty:  # type: ignore[attr-defined]
            continue
    child.join()
    counts.update(counted)
    if child.exitcode == 0:
        return last
    counts["findings"] += 1
    print(f"graph {place.value} of seed {chosen.seed}: the process died, exit code {child.exitcode}", flush=True)
    return int(place.value) + 1


def run_child(chosen: argparse.Namespace, last: int, place: Any, results: Any) -> None:
    """Check graphs from place.value on, and send what was counted after each hundred."""
    counts: Counter[str] = Counter()
    parent = os.getppid()
    for number in range(place.value, last):
        if os.getppid() != parent:  # it was killed: nobody counts any more
            return
        place.value = number
        check_graph(chosen, number, counts)
        if number % 100 == 99:
            results.put(counts.copy())
    results.put(counts)


def check_graph(chosen: argparse.Namespace, number: int, counts: Counter[str]) -> None:
    """Draw, prove and run one graph, and count what became of it."""
    random = np.random.default_rng([chosen.seed, number])
    model = draw(random)
    counts["graphs"] += 1
    try:
        outcome = check(model, random)
    except Finding as finding:
        counts["findings"] += 1
        chosen.findings.mkdir(parents=True, exist_ok=True)
        path = chosen.findings / f"{chosen.seed}-{number}.onnx"
        path.write_bytes(model.SerializeToString())
        print(f"graph {number} of seed {chosen.seed}: {finding} ({path})", flush=True)
        return
    counts["certified" if outcome.certified else f"refused: {outcome.reason}"] += 1
    counts["nodes"] += outcome.nodes


def figures(counts: Counter[str], seconds: float) -> str:
    """Return one line of figures."""
    certified = counts["certified"]
    return (
        f"{counts['graphs']} graphs in {seconds:.0f} s, {certified} certified "
        f"({100 * certified / max(counts['graphs'], 1):.0f} %), {counts['nodes'] / max(certified, 1):.1f} nodes each, "
        f"{counts['findings']} findings"
    )


def check(model: onnx.ModelProto, random: np.random.Generator, *, quick: bool = False) -> Outcome:
    """Prove a graph, and run it where it is certified; raises Finding where two answers differ.

    A quick check runs one optimisation level beside none, drawn at random.
    """
    try:
        proof = walk(model.SerializeToString())
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise Finding(f"the prover ends in {error!r:.200}") from error
    except ProofError as error:
        return Outcome(
            certified=False, reason="".join("#" if letter.isdigit() else letter for letter in error.reason)[:70]
        )
    feeds = make_rows(model, random)
    levels = ["none", str(random.choice(["basic", "extended", "all"]))] if quick else list(LEVELS)
    bits = run_engine(model, feeds, levels, random)
    run_reference(model, feeds, bits)
    run_numpy(model, feeds, bits, proof, random)
    return Outcome(certified=True, nodes=len(model.graph.node))


def make_rows(model: onnx.ModelProto, random: np.random.Generator) -> Feeds:
    """Return rows in which every column takes every edge of its type, in an order of its own."""
    feeds = {}
    for value in model.graph.input:
        real = value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
        edges = np.asarray(FLOATS) if real else np.resize(np.asarray(INTEGERS, np.int64), len(FLOATS))
        width = value.type.tensor_type.shape.dim[1].dim_value
        feeds[value.name] = np.stack([random.permutation(edges) for _ in range(width)], axis=1)
    return feeds


def rows_of(outputs: list[np.ndarray], count: int) -> list[bytes]:
    """Return the bytes of each row over all outputs."""
    for each in outputs:
        if each.shape[0] != count:
            raise Finding(f"{each.shape[0]} rows came out of {count}")
    parts = [np.ascontiguousarray(each).reshape(count, -1).view(np.uint8) for each in outputs]
    return [row.tobytes() for row in np.concatenate(parts, axis=1)]


def run_engine(model: onnx.ModelProto, feeds: Feeds, levels: Sequence[str], random: np.random.Generator) -> list[bytes]:
    """Run optimisation levels, batch sizes and positions; returns the bits of each row."""
    count = len(next(iter(feeds.values())))
    expected: list[bytes] = []
    variants = [(level, 1) for level in levels] + ([("all", 2)] if random.random() < 0.125 else [])
    for level, threads in variants:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = LEVELS[level]
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            batches = [np.arange(count), *(random.integers(0, count, size) for size in SIZES)]
            for rows in batches if expected else [np.arange(count), *batches[1:], *np.arange(count)[:, None]]:
                bits = rows_of(session.run(None, {name: values[rows] for name, values in feeds.items()}), len(rows))
                expected = expected or bits
                compare(
                    bits, [expected[row] for row in rows], f"onnxruntime, {level}, {threads} threads, {len(rows)} rows"
                )
        except ENGINE_ERRORS as error:
            raise Finding(f"onnxruntime, {level}: {str(error).splitlines()[0][:200]}") from error
    return expected


def run_reference(model: onnx.ModelProto, feeds: Feeds, expected: list[bytes]) -> None:
    """Run the reference evaluator on all rows, and on one by itself."""
    evaluator = ReferenceEvaluator(model)
    count = len(expected)
    with np.errstate(all="ignore"):
        for rows in (np.arange(count), np.arange(1)):
            try:
                outputs = evaluator.run(None, {name: values[rows] for name, values in feeds.items()})
            except (TypeError, ValueError, IndexError, RuntimeError) as error:
                raise Finding(f"reference evaluator: {error!r:.200}") from error
            compare(rows_of(outputs, len(rows)), [expected[row] for row in rows], "reference evaluator")


def run_numpy(
    model: onnx.ModelProto, feeds: Feeds, expected: list[bytes], proof: Proof, random: np.random.Generator
) -> None:
    """Evaluate in NumPy; every tensor must be as the prover derived it."""
    known = evaluate(model, feeds, random)
    compare(rows_of([known[value.name] for value in model.graph.output], len(expected)), expected, "NumPy")
    for node in model.graph.node:
        check_inside(proof.boxes[node.output[0]], known[node.output[0]], node)


def check_inside(box: Box, values: np.ndarray, node: onnx.NodeProto) -> None:
    """Raise Finding where a tensor is not as its box says."""
    nan = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    infinite = np.isinf(values) if values.dtype.kind == "f" else nan
    faults = (
        ("of another type", values.dtype != box.dtype),
        ("of another shape", np.broadcast_shapes(box.low.shape, values.shape) != values.shape),
        ("NaN", bool((nan & ~box.nan).any())),
        ("outside its interval", not bool(((values >= box.low) & (values <= box.high) | nan).all())),
        ("off its grid", not bool((nan | infinite | (grid_of(values) >= box.exponent)).all())),
    )
    for words, broken in faults:
        if broken:
            raise Finding(f"{node.name} ({node.op_type}) is {words}")


def compare(bits: list[bytes], expected: list[bytes], where: str) -> None:
    """Raise Finding where the bits of a row differ."""
    changed = [row for row, (first, second) in enumerate(zip(bits, expected, strict=True)) if first != second]
    if changed:
        raise Finding(f"{where}: row {changed[0]} has other bits")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
