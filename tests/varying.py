"""Graphs and engines whose bits are known to depend on the batch, or not to, for tests of the check that finds out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.service.inference.runner import Feeds, Runner

NO_PREPACKING = (("session.disable_prepacking", "1"),)
Arrays = dict[str, np.ndarray]


def graph(nodes: list[onnx.NodeProto], constants: Arrays, shape: list[object], dtype: int = TensorProto.FLOAT) -> bytes:
    """Return a serialised graph from `x` of `shape` to `y`."""
    made = helper.make_graph(
        nodes,
        "varying",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString())


def elementwise(op: str, dtype: int = TensorProto.FLOAT) -> bytes:
    """Return a graph of one operator on rows of 3, which no vector width divides."""
    return graph([helper.make_node(op, ["x"], ["y"])], {}, ["rows", 3], dtype)


def linear(width: int = 32) -> bytes:
    """Return two Gemms and a Relu on rows of `width`."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(width, 64)).astype(np.float32),
        "v": rng.normal(size=(64, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v"], ["y"]),
    ]
    return graph(nodes, constants, ["rows", width])


def matmul_3d(width: int = 32) -> bytes:
    """Return a batched product with a constant right side, as ensemble members in one node would be."""
    constants = {
        "w": np.random.default_rng(0).normal(size=(4, width, 64)).astype(np.float32),
        "axis": np.array([0]),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["u"]),
        helper.make_node("MatMul", ["u", "w"], ["z"]),
        helper.make_node("Transpose", ["z"], ["y"], perm=[1, 0, 2]),
    ]
    return graph(nodes, constants, ["rows", width])


def batch_mean(width: int = 3) -> bytes:
    """Return a graph that subtracts the mean of the batch: batch norm that was left in training mode."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]), helper.make_node("Sub", ["x", "m"], ["y"])]
    return graph(nodes, {}, ["rows", width])


def engine(model: bytes, entries: tuple[tuple[str, str], ...] = ()) -> Engine:
    """Return the engine on the processor, one thread."""
    return Engine(model, EngineOptions(device="cpu", entries=entries), names=None)


def rows_like(width: int, dtype: type = np.float32, rows: int = 40) -> Callable[[int], Feeds]:
    """Return a source of normally distributed rows, the same ones at every draw."""
    values = (2 * np.random.default_rng(5).normal(size=(rows, width))).astype(dtype)
    return lambda _: [values]


def changes(runner: Runner, values: np.ndarray, sizes: range) -> bool:
    """Return whether any row's bits change: plainly, one row and one batch at a time, for checking the check."""
    lone = [runner.run([[values[row : row + 1]]])[0]["y"].tobytes() for row in range(len(values))]
    for size in sizes:
        for start in range(len(values) - size + 1):
            batch = runner.run([[values[start : start + size]]])[0]["y"]
            if [row.tobytes() for row in batch] != lone[start : start + size]:
                return True
    return False


class Stand:
    """A stand-in for the engine: numbers doubled, and whatever `fault` adds to them, given the rows of the run."""

    def __init__(self, fault: Callable[[np.ndarray], np.ndarray | float] = lambda _: 0.0) -> None:
        self.fault = fault

    def run(self, feeds: Feeds) -> Outputs:
        """Return {"y": ...}."""
        (x,) = feeds
        assert x is not None
        return {"y": 2 * x + self.fault(x)}


def save(model: bytes, path: Path) -> Path:
    """Write the graph to a file."""
    path.write_bytes(model)
    return path
