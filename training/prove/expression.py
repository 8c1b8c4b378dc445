"""Is an optimised graph still the proved one? Each output as one hash of the expression that computes it.

The hash of a tensor is that of its operator, attributes and operands, constants by their bytes, names not at all.
Shared subexpressions, merged constants and removed Identity nodes leave it as it is; any rewritten, fused or reordered
arithmetic changes it.
"""

import hashlib

import onnx
from onnx import numpy_helper
from onnx.helper import get_attribute_value

from training.prove.box import ProofError

OPSET = 17  # whose schemas say what an attribute left out means


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
    """Raise ProofError where an output of the optimised graph is another expression than the proved one."""
    wanted, found = expressions(proved), expressions(optimised)
    for output, expression in wanted.items():
        if found.get(output) != expression:
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
    return ", ".join(changed) or "the same operators, put together otherwise"


def attributes(node: onnx.NodeProto) -> str:
    """Return a node's attributes, sorted, those at their defaults left out: optimisers write defaults down."""
    known = onnx.defs.get_schema(node.op_type, OPSET).attributes if not node.domain else {}
    defaults = {name: get_attribute_value(entry.default_value) for name, entry in known.items() if not entry.required}
    found = {each.name: get_attribute_value(each) for each in node.attribute}
    return repr(
        sorted((name, value) for name, value in found.items() if name not in defaults or value != defaults[name])
    )


def digest(*parts: str) -> str:
    """Return the hash of a list of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
