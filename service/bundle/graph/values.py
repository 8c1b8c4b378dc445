"""Refuse graphs in which a caller's values set the size of a tensor, or divide a whole number.

If a size depends on a row, one caller can request any amount of memory. A division of whole numbers by zero (and of
the smallest one by -1) crashes the process: the processor raises SIGFPE, which no exception handler sees. Loading a bundle
cannot find either, because both depend on a later row; so the file is refused. Sizes may
follow from constants and from the number of rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from batchproof.service.bundle.graph.fields import DTYPES
from batchproof.service.bundle.graph.nodes import Graph, Node
from batchproof.service.bundle.graph.tensors import Constant

# The same row must give the same bits twice.
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
SIZING = {  # operator -> the inputs whose values decide how large its outputs are, beyond the size of what it reads
    "BlackmanWindow": (0,),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (2, 3),
    "STFT": (1, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
SELECTING = {  # operator -> the inputs whose values decide how much of what it reads its outputs hold
    "Compress": (0, 1),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "NonZero": (0,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "TopK": (1,),
    "Unique": (0,),
}
MEASURING = frozenset({"Shape", "Size"})  # their outputs follow from the size of the input, not from its values
DIVIDING = frozenset({"Div", "Mod"})
FLOATS = frozenset({"float32", "float64", "float16", "bfloat16"})
OTHER_FLOATS = {10: "float16", 16: "bfloat16"}  # by data_type: computed with, never stored
# Operators by the type of their first output; every other one gives the type of its first input, or is not listed.
TRUTH = frozenset(
    "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor".split()  # noqa: SIM905 - read as words
)
INDEX = frozenset("ArgMax ArgMin NonMaxSuppression NonZero Shape Size".split())  # noqa: SIM905
SAME = frozenset(
    "Abs Acos Acosh Add Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift Ceil Celu Clip Compress Concat "  # noqa: SIM905
    "Conv ConvTranspose Cos Cosh CumSum DepthToSpace Det Div Dropout Einsum Elu Erf Exp Expand Flatten Floor GRU Gather "
    "GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample HardSigmoid HardSwish Hardmax "
    "Identity InstanceNormalization LRN LSTM LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul Max "
    "MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul Neg PRelu Pad Pow RNN Range Reciprocal "
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare "
    "Relu Reshape Resize ReverseSequence RoiAlign Round Scatter ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin "
    "Sinh Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK "
    "Transpose Trilu Unique Unsqueeze Upsample".split()
)


class Known(NamedTuple):
    """What is known of one tensor from the file."""

    dtype: str = ""  # empty: not known
    follows_rows: bool = False  # whether its values depend on the values of the rows
    size_follows_rows: bool = False  # whether its size does
    constant: Constant | None = None


def check_values(graph: Graph) -> None:
    """Refuse chance, nodes out of order, and sizes and divisors that rows could choose; raises ValueError."""
    known = {end.name: Known(end.dtype, follows_rows=True) for end in graph.inputs}
    known |= {name: Known(constant.dtype, constant=constant) for name, constant in graph.constants.items()}
    for node in graph.nodes:
        for name, result in zip(node.outputs, _results(node, _inputs(node, known)), strict=True):
            if name and name in known:
                raise ValueError(f"{node.label} writes {name!r:.80} anew")
            known[name] = result
    missing = [end.name for end in graph.outputs if end.name not in known]
    if missing:
        raise ValueError(f"no node writes the output {missing[0]!r:.80}")


def _inputs(node: Node, known: dict[str, Known]) -> list[Known]:
    for name in node.inputs:
        if name and name not in known:
            raise ValueError(f"{node.label} reads {name!r:.80}, which no node before it writes")
    return [known[name] if name else Known() for name in node.inputs]


def _results(node: Node, inputs: list[Known]) -> Iterator[Known]:
    """Check one node, and return what is known of its outputs."""
    if node.operator in RANDOM:
        raise ValueError(f"{node.label} is random: a row would not get the same answer twice")
    for tensor in _chosen(inputs, SIZING.get(node.operator, ())):
        if tensor.follows_rows:
            raise ValueError(
                f"{node.label} takes a size from the values of rows, so that one row could ask for any amount of memory; "
                "a size must be a constant or follow from the number of rows"
            )
    if node.operator in DIVIDING:
        _check_divisor(node, inputs)
    follows = any(tensor.follows_rows for tensor in inputs)
    size_follows = any(tensor.size_follows_rows for tensor in inputs)
    size_follows |= any(tensor.follows_rows for tensor in _chosen(inputs, SELECTING.get(node.operator, ())))
    if node.operator in MEASURING:
        follows, size_follows = size_follows, False
    constant = _constant(node, inputs)
    for place in range(len(node.outputs)):
        yield Known(result_type(node, inputs, place), follows, size_follows, constant)


def _chosen(inputs: list[Known], places: tuple[int, ...]) -> list[Known]:
    return [inputs[place] for place in places if place < len(inputs)]


def _constant(node: Node, inputs: list[Known]) -> Constant | None:
    if node.operator == "Constant":
        value = node.attributes.get("value")
        return value if isinstance(value, Constant) else None
    return inputs[0].constant if node.operator == "Identity" and inputs else None


def _check_divisor(node: Node, inputs: list[Known]) -> None:
    """Raise ValueError unless the node divides floating-point numbers, or by constants other than 0 and -1."""
    if len(inputs) != 2 or any(tensor.dtype in FLOATS for tensor in inputs):
        return
    divisor = inputs[1].constant
    if divisor is not None and divisor.whole is not None and not np.isin(divisor.whole, (0, -1)).any():
        return
    raise ValueError(
        f"{node.label} divides whole numbers by what may be 0 or -1, which can end the process; "
        "divide floating-point numbers, or by a constant without 0 and -1"
    )


def result_type(node: Node, inputs: list[Known], place: int = 0) -> str:
    """Return the type of the node's output at `place`, empty where it is not known."""
    operator = node.operator
    if operator in INDEX or (place and operator in ("TopK", "Unique", "MaxPool")):
        return "int64"
    if operator in TRUTH or (place and operator == "Dropout"):
        return "bool"
    if operator in ("Cast", "Constant", "ConstantOfShape"):
        return _stated_type(node)
    source = {"Where": 1, "CastLike": 1, "OneHot": 2, "DequantizeLinear": 1}.get(operator, 0)
    if source >= len(inputs) or (not source and operator not in SAME):
        return ""
    return inputs[source].dtype


def _stated_type(node: Node) -> str:
    if node.operator == "Cast":
        number = node.attributes.get("to")
        return DTYPES.get(number, OTHER_FLOATS.get(number, "")) if isinstance(number, int) else ""
    value = node.attributes.get("value")
    if isinstance(value, Constant):
        return value.dtype
    if node.operator == "ConstantOfShape":
        return "float32" if "value" not in node.attributes else ""
    kinds = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    return next((dtype for name, dtype in kinds.items() if name in node.attributes), "")
