"""Check that the engine's optimiser, at every level, keeps the arithmetic of a proved graph."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import onnx
from onnx import numpy_helper
from onnx.helper import get_attribute_value

from batchproof.service.bundle.graph.check import OPSET
from batchproof.service.errors import EngineError, first_line
from batchproof.service.inference.engine import EngineOptions, failures, library, session_options
from batchproof.training.prove.box import ProofError

Level = Literal["none", "basic", "extended", "all"]
LEVELS: tuple[Level, ...] = ("none", "basic", "extended", "all")


def optimised(model: bytes, level: Level) -> bytes:
    """Return the graph that the engine runs at an optimisation level, serialised.

    Raises EngineError where the engine cannot load it.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = session_options(EngineOptions(device="cpu", optimisation=level))
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3  # silences a warning that the optimised graph is for this host only
        engine = library()
        try:
            engine.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except failures(engine) as error:
            raise EngineError(f"the engine cannot load the graph: {first_line(error)}") from error
        return path.read_bytes()


def check_optimised(model: bytes) -> None:
    """Raise ProofError where the engine, at any level, would not run the arithmetic of `model`."""
    for level in LEVELS:
        check_same(model, optimised(model, level), level)


def expressions(model: bytes) -> dict[str, str]:
    """Return {output: hash of its expression} of a serialised ONNX file."""
    graph = onnx.load_model_from_string(model).graph
    known = {"": "absent"} | {value.name: digest("input", value.name) for value in graph.input}
    for stored in graph.initializer:
        array = numpy_helper.to_array(stored)
        known[stored.name] = digest("constant", str(array.dtype), str(array.shape), array.tobytes().hex())
    for node in graph.node:
        operands = [known[name] for name in node.input]
        if node.op_type == "Identity":
            known[node.output[0]] = operands[0]
            continue
        for place, name in enumerate(node.output):
            known[name] = digest(node.domain, node.op_type, str(place), attributes(node), *operands)
    return {value.name: known[value.name] for value in graph.output}


def check_same(proved: bytes, optimised: bytes, level: str) -> None:
    """Raise ProofError where an output of the optimised graph has a different expression."""
    before, after = expressions(proved), expressions(optimised)
    for output, expression in before.items():
        if after.get(output) != expression:
            raise ProofError(
                output,
                f"the engine's optimiser (level {level}) rewrites its arithmetic: {difference(proved, optimised)}",
            )


def difference(proved: bytes, optimised: bytes) -> str:
    """Name the operators that one graph holds and the other does not."""
    before, after = (
        [f"{node.domain}.{node.op_type}".lstrip(".") for node in onnx.load_model_from_string(model).graph.node]
        for model in (proved, optimised)
    )
    names = sorted({*before, *after})
    changed = [
        f"{name} {before.count(name)} -> {after.count(name)}"
        for name in names
        if before.count(name) != after.count(name)
    ]
    return ", ".join(changed) or "the same operators, connected differently"


def attributes(node: onnx.NodeProto) -> str:
    """Return a node's attributes, sorted, without those at their defaults, which optimisers write out."""
    schema = onnx.defs.get_schema(node.op_type, OPSET).attributes if not node.domain else {}
    defaults = {name: get_attribute_value(entry.default_value) for name, entry in schema.items() if not entry.required}
    values = {entry.name: get_attribute_value(entry) for entry in node.attribute}
    return repr(
        sorted((name, value) for name, value in values.items() if name not in defaults or value != defaults[name])
    )


def digest(*parts: str) -> str:
    """Return the hash of a list of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
