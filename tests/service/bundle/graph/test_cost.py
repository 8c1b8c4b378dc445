"""The cost that a file shows is never less than what the engine makes; what it does not show is said."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.service.bundle import reader
from batchproof.service.bundle.graph import nodes
from batchproof.service.bundle.graph.cost import RULES, UnmodelledError, cost
from batchproof.service.bundle.graph.fields import GRAPH, MODEL
from batchproof.service.bundle.graph.protobuf import Message
from batchproof.service.errors import EngineError
from batchproof.service.inference.engine import Engine, EngineOptions
from tests.bundles import make_bundle

ROOT = Path(__file__).resolve().parents[4]
ROWS = 7
node = helper.make_node


def graph_of(model: onnx.ModelProto) -> nodes.Graph:
    (graph,) = Message(memoryview(model.SerializeToString()), "model", MODEL).messages("graph", "graph", GRAPH)
    return nodes.read(graph)


def model_of(made: list[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 6])]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(made, "g", inputs, [], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def made_bytes(model: onnx.ModelProto, rows: int) -> int:
    """Return the bytes of all results of the engine, unoptimised, for `rows` rows."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    kinds = {info.name: info.type.tensor_type.elem_type for info in inferred.graph.value_info}
    for made in model.graph.node:
        model.graph.output.append(helper.make_tensor_value_info(made.output[0], kinds[made.output[0]], None))
    engine = Engine(model.SerializeToString(), EngineOptions("cpu", optimisation="none"), names=["x"])
    outputs = engine.run([np.random.default_rng(0).normal(size=(rows, 6)).astype(np.float32)])
    return sum(array.nbytes for array in outputs.values())


W = np.ones((6, 5), np.float32)
ONE_NODE: dict[str, onnx.ModelProto] = {
    "Relu": model_of([node("Relu", ["x"], ["y"])]),
    "Cast": model_of([node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)]),
    "Add, spread": model_of([node("Add", ["x", "c"], ["y"])], c=np.ones((3, 1, 6), np.float32)),
    "Where": model_of([node("Greater", ["x", "c"], ["t"]), node("Where", ["t", "x", "c"], ["y"])], c=np.float32(0)),
    "Clip": model_of([node("Clip", ["x", "c"], ["y"])], c=np.float32(0)),
    "Clip without the least": model_of([node("Clip", ["x", "", "c"], ["y"])], c=np.float32(0)),
    "Max": model_of([node("Max", ["x", "x", "c"], ["y"])], c=np.float32(0)),
    "Gather columns": model_of([node("Gather", ["x", "c"], ["y"], axis=1)], c=np.array([0, 5, 5])),
    "Gather one": model_of([node("Gather", ["x", "c"], ["y"], axis=-1)], c=np.int64(3)),
    "Concat": model_of([node("Concat", ["x", "x"], ["y"], axis=1)]),
    "Gemm": model_of([node("Gemm", ["x", "w", "b"], ["y"])], w=W, b=np.ones(5, np.float32)),
    "Gemm, turned": model_of([node("Gemm", ["w", "x"], ["y"], transA=1, transB=1)], w=W),
    "Gemm, scaled": model_of(
        [node("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0)], w=W, b=np.ones(5, np.float32)
    ),
    "MatMul": model_of([node("MatMul", ["x", "w"], ["y"])], w=np.ones((2, 6, 5), np.float32)),
    "rows by rows": model_of([node("Gemm", ["x", "x"], ["y"], transB=1)]),
    "ReduceMax": model_of([node("ReduceMax", ["x"], ["y"], axes=[1])]),
    "ReduceMax to fewer axes": model_of([node("ReduceMax", ["x"], ["y"], axes=[-1], keepdims=0)]),
    "ReduceMax of everything": model_of([node("ReduceMax", ["x"], ["y"], keepdims=0)]),
    "ReduceSum": model_of([node("ReduceSum", ["x", "c"], ["y"])], c=np.array([1])),
    "Reshape": model_of([node("Reshape", ["x", "c"], ["y"])], c=np.array([-1, 2, 3])),
    "Reshape by copying": model_of([node("Reshape", ["x", "c"], ["y"])], c=np.array([0, 3, 2])),
    "Softmax": model_of([node("Softmax", ["x"], ["y"], axis=1)]),
    "Unsqueeze": model_of([node("Unsqueeze", ["x", "c"], ["y"])], c=np.array([0, -1])),
}


@pytest.mark.parametrize("name", ONE_NODE)
def test_bytes_are_those_of_the_engine(name: str) -> None:
    """The bytes of a graph's results are exactly those of the arrays that the engine returns."""
    model = ONE_NODE[name]
    found = cost(graph_of(model), ROWS)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    assert found.tensor_bytes == made_bytes(copy, ROWS)


BIG = np.array([10**9])
UNKNOWN: dict[str, onnx.ModelProto] = {
    "Tile": model_of([node("Tile", ["x", "c"], ["y"])], c=np.array([1, 10**9])),
    "Expand": model_of([node("Expand", ["x", "c"], ["y"])], c=BIG),
    "ConstantOfShape": model_of([node("ConstantOfShape", ["c"], ["y"])], c=BIG),
    "Range": model_of([node("Range", ["a", "b", "d"], ["y"])], a=np.int64(0), b=np.int64(10**9), d=np.int64(1)),
    "Pad": model_of([node("Pad", ["x", "c"], ["y"])], c=np.array([0, 0, 0, 10**9])),
    "no operator": model_of([node("Novelty", ["x"], ["y"])]),
    "another attribute": model_of([node("Reshape", ["x", "c"], ["y"], allowzero=1)], c=np.array([-1, 2])),
    "an attribute of another type": model_of([node("Gather", ["x", "c"], ["y"], axis="1")], c=np.array([0])),
    "too many inputs": model_of([node("Relu", ["x", "x"], ["y"])]),
    "two results": model_of([node("Relu", ["x"], ["y", "z"])]),
    "an input left out": model_of([node("Add", ["x", ""], ["y"])]),
    "shapes that do not fit": model_of([node("Gemm", ["x", "x"], ["y"])]),
    "an axis that is not there": model_of([node("Gather", ["x", "c"], ["y"], axis=2)], c=np.array([0])),
    "a size that rows compute": model_of(
        [node("Cast", ["x"], ["s"], to=TensorProto.INT64), node("Reshape", ["x", "s"], ["y"])]
    ),
    "a bound for each number": model_of([node("Clip", ["x", "c"], ["y"])], c=np.zeros(6, np.float32)),
    "a size that does not divide": model_of([node("Reshape", ["x", "c"], ["y"])], c=np.array([-1, 11])),
    "an axis twice": model_of([node("Unsqueeze", ["x", "c"], ["y"])], c=np.array([0, 0])),
    "axes that are left out": model_of([node("ReduceSum", ["x"], ["y"])]),
    "no axes at all": model_of([node("ReduceSum", ["x", "c"], ["y"])], c=np.array([], np.int64)),
    "the maximum of nothing": model_of([node("ReduceMax", ["c"], ["y"], axes=[0])], c=np.zeros((0, 6), np.float32)),
    "an axis that is not said": model_of([node("Concat", ["x", "x"], ["y"])]),
    "numbers of another width": model_of([node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_forms_have_no_cost(name: str) -> None:
    """An operator, or a form of one, that is not modelled has no cost: it is never called cheap."""
    with pytest.raises(UnmodelledError, match=r"the node '.' "):
        cost(graph_of(UNKNOWN[name]), ROWS)


def test_doubling_is_counted() -> None:
    """Forty nodes that each join a tensor with itself cost 2^40 times the first one."""
    made = [node("Concat", [f"x{step}" if step else "x"] * 2, [f"x{step + 1}"], axis=1) for step in range(40)]
    assert cost(graph_of(model_of(made)), 1).tensor_bytes > (6 * 4) << 40


def test_exported_graphs_are_bounded(tmp_path: Path) -> None:
    """Every graph that this project writes has a cost, in both arithmetics."""
    folders = [ROOT / "models" / "penguins" / "1"]
    for task in ("binary", "multiclass", "regression"):
        folders += [
            make_bundle(tmp_path, f"{task}-{kind}", task=task, arithmetic=kind) for kind in ("float32", "exact")
        ]
    for folder in folders:
        graph = reader.read(folder).graph
        assert 0 < cost(graph, 8).tensor_bytes < cost(graph, 512).tensor_bytes < 64 << 20


def random_model(draw: random.Random) -> onnx.ModelProto:
    """Return a graph of one to six nodes of modelled operators, with constants of random shapes."""
    names, made, constants = ["x"], [], {}
    for step in range(draw.randint(1, 6)):
        operator = draw.choice(sorted(RULES))
        inputs = [draw.choice(names[-2:])]
        attributes: dict[str, Any] = {}
        shape = [draw.choice((1, 2, 3, 6)) for _ in range(draw.randint(0, 3))]
        tensor = np.ones(shape, np.float32)
        if operator in ("Reshape", "Unsqueeze", "ReduceSum"):
            choices = {"Reshape": [-1, 0, 1, 2, 3, 6]}.get(operator, [0, 1, 2, -1])
            tensor = np.array(draw.sample(choices, draw.randint(1, 3)))
        elif operator == "Gather":
            tensor = np.zeros(shape, np.int64)
        if operator in ("Concat", "Gather", "Softmax"):
            attributes["axis"] = draw.randint(-2, 2)
        if operator in ("ReduceMax", "ReduceMin"):
            attributes |= {"axes": draw.sample([0, 1, 2, -1], draw.randint(1, 2)), "keepdims": draw.randint(0, 1)}
        if operator == "Gemm":
            attributes |= {"transA": draw.randint(0, 1), "transB": draw.randint(0, 1)}
        if operator == "Cast":
            attributes["to"] = TensorProto.FLOAT
        if RULES[operator].most > 1:
            constants[f"c{step}"] = tensor
            inputs += draw.choice(([f"c{step}"], [names[-1]])) if tensor.dtype == np.float32 else [f"c{step}"]
        if operator == "Where":
            made.append(node("Greater", [inputs[0], inputs[0]], [f"t{step}"]))
            inputs = [f"t{step}", *inputs]
        made.append(node(operator, inputs, [f"y{step}"], **attributes))
        names.append(f"y{step}")
    return model_of(made, **constants)


def test_cost_of_random_graphs_is_the_engines() -> None:
    """Whatever graph has a cost: where the engine runs it, its results have exactly those bytes; fewer rows cost less."""
    draw, compared = random.Random(11), 0
    for _ in range(1500):
        model = random_model(draw)
        try:
            bound = cost(graph_of(model), ROWS)
            fewer = cost(graph_of(model), ROWS - 2)
        except UnmodelledError:
            continue
        assert all(small <= large for small, large in zip(fewer, bound, strict=True))
        try:
            assert made_bytes(model, ROWS) == bound.tensor_bytes
        except (EngineError, onnx.shape_inference.InferenceError):
            continue  # the engine refuses what has a bound: no harm
        compared += 1
    assert compared > 200
