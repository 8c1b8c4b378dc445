"""The conditions on outputs: rows first, no NaN, and a last `Add +0.0`, which settles the sign of zeros.

Maxima, Clips and roundings leave the sign of a zero to the engine. Nothing inside the graph can distinguish the two zeros
(a divisor is never zero), and adding +0.0 makes both of them +0.0.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from batchproof.training.prove.box import Box, ProofError
from batchproof.training.prove.declared import check_declared
from batchproof.training.prove.limits import shown


def check_outputs(graph: onnx.GraphProto, boxes: Mapping[str, Box]) -> None:
    """Refuse outputs that miss a condition, declared shapes that are wrong, and float32 anywhere but in outputs."""
    writers = {name: node for node in graph.node for name in node.output}
    names = [value.name for value in graph.output]
    if not names or len(set(names)) != len(names):
        raise ProofError("model", "has no output" if not names else "names an output twice")
    for value in graph.output:
        box = boxes.get(value.name)
        if box is None or value.name not in writers:
            raise ProofError(value.name, "no node writes this output")
        if box.rows != 0:
            raise ProofError(value.name, "the first axis of an output must be the row axis")
        if not box.finite:
            raise ProofError(value.name, "the output may be NaN or infinite: its bits depend on the processor")
        check_declared(value, box)
        if box.dtype.kind == "f":
            check_settled(value.name, writers, boxes)
    for value in graph.value_info:
        if value.name in boxes:
            check_declared(value, boxes[value.name])
    check_narrow(graph, boxes)


def check_settled(output: str, writers: Mapping[str, onnx.NodeProto], boxes: Mapping[str, Box]) -> None:
    """Refuse an output that is not written by `Add +0.0` itself: engines drop an Add of zero that a node reads."""
    writer = writers[output]
    if not adds_zero(writer, boxes):
        reason = f"the output {shown(output)} must be written by Add +0.0: the sign of its zeros is not settled"
        raise ProofError(writer.name or output, reason)


def adds_zero(node: onnx.NodeProto, boxes: Mapping[str, Box]) -> bool:
    """Whether a node adds the stored constant +0.0."""
    return node.op_type == "Add" and any(is_plus_zero(boxes[name]) for name in node.input)


def is_plus_zero(box: Box) -> bool:
    """Whether a tensor is the constant +0.0 throughout; what was computed may be -0.0 in another engine."""
    return box.stored and box.constant and bool((box.low == 0).all()) and not np.signbit(box.low).any()


def check_narrow(graph: onnx.GraphProto, boxes: Mapping[str, Box]) -> None:
    """Refuse float32 before the last step: engines remove a Cast down that is followed by a Cast up.

    By form, Add is the only operator that reads float32.
    """
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        narrow = [name for name in node.input if boxes[name].dtype == np.float32]
        if narrow and node.output[0] not in outputs:
            raise ProofError(
                node.name or node.op_type,
                f"computes with {shown(narrow[0])}, which is float32; only outputs may be float32",
            )
