"""Draw ONNX graphs at random out of the prover's operators, with constants at the edges of their types.

A draft is built beside a proof of it: most nodes that the prover refuses are thrown away again, so that a good part of
the graphs is certified although they are long and strange. Then `near_miss` changes one thing of a finished graph (a
constant, a limit, an operator, an attribute, an operand): what is still certified after that lies at the border.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchproof.training.prove.box import Box, ProofError, of_constant
from batchproof.training.prove.proof import Proof

FLOATS = (
    *(0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, -5e-324, 2.0**-1022, 1e-310, 1.7976931348623157e308),
    *(-1.7976931348623157e308, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 1 / 3, -0.3, 0.1, 7.0, -8.0, 3.4028235e38, 1e39, 1e-46),
    *(2.0**53, 2.0**53 - 1, 2.0**53 + 2, -(2.0**53), 2.0**52 + 0.5, 2.0**63, -(2.0**63), 2.0**31, -(2.0**31), 2.0**62),
    *(2.0**31 - 0.5, -(2.0**31) - 0.5, 2.0**24 + 1, 1e300, -1e300, 1e-300, 4096.0, 1.0 + 2.0**-52, 1e16),
)
INTEGERS = (
    *(0, 1, -1, 2, 3, -2, 5, 7, 64, 2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, 2**53, 2**53 + 1, 2**53 - 1),
    *(-(2**53), -(2**53) - 1, 2**31, 2**31 - 1, -(2**31), -(2**31) - 1, 2**32, 2**62, -(2**62), 2**24 + 1, 2**24),
)
TYPES = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}
TAME = 0.7  # of the constants are small numbers rather than edges
Constant = np.ndarray | float | int


class Draft:
    """A graph that grows, with what the prover knows of it."""

    def __init__(self, random: np.random.Generator) -> None:
        """Start with one or two inputs."""
        self.random = random
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.refused = 0
        kinds = [("x", "float64"), ("i", "int64")]
        chosen = kinds if random.random() < 0.6 else [kinds[int(random.random() < 0.4)]]
        self.inputs = [
            helper.make_tensor_value_info(name, TYPES[kind], ["rows", int(random.integers(1, 5))])
            for name, kind in chosen
        ]
        self.proof = Proof(helper.make_graph([], "random", self.inputs, []))

    def constant(self, value: Constant, dtype: Any = None) -> str:
        """Store a constant and return its name."""
        stored = np.asarray(value, dtype)
        if self.random.random() < 0.1:
            return self.add("Constant", [], value=numpy_helper.from_array(stored))
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(stored, name))
        self.proof.boxes[name] = of_constant(stored, name)
        return name

    def add(self, op: str, operands: Sequence[str], **attributes: Any) -> str:
        """Append a node and return its output; raises ProofError and leaves the draft as it was where it is refused."""
        name = f"n{len(self.nodes)}"
        node = helper.make_node(op, list(operands), [name], name=name, **attributes)
        with np.errstate(all="ignore"):
            self.proof.step(node)
        self.nodes.append(node)
        return name

    def undo(self, count: int) -> None:
        """Take back the nodes from number `count` on."""
        for node in self.nodes[count:]:
            del self.proof.boxes[node.output[0]]
        del self.nodes[count:]

    def box(self, name: str) -> Box:
        """Return what the prover knows of a tensor."""
        return self.proof.boxes[name]

    def tensors(self, *kinds: str, rows: int | None = None) -> list[str]:
        """Return the tensors of rows of some types, the latest last; with `rows` only those with that row axis."""
        types = [np.dtype(kind) for kind in kinds]
        return [
            name
            for name, box in self.proof.boxes.items()
            if box.rows is not None and (not types or box.dtype in types) and (rows is None or box.rows == rows)
        ]

    def pick(self, *kinds: str, rows: int | None = None) -> str:
        """Return a tensor of rows, a late one rather than an early one; raises LookupError where there is none."""
        names = self.tensors(*kinds, rows=rows)
        if not names:
            raise LookupError
        return names[-1 - min(int(self.random.exponential(2.0)), len(names) - 1)]

    def model(self) -> onnx.ModelProto:
        """Return the graph as an ONNX file."""
        graph = helper.make_graph(self.nodes, "random", self.inputs, self.outputs, self.constants)
        version = int(self.random.choice([13, 14, 15, 16, 17, 17, 17]))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


def numbers(random: np.random.Generator, dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Draw constants of a type: small ones, and edges."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.asarray(random.random(shape) < 0.5)
    if kind.kind == "f":
        tame = random.choice(
            [random.normal(size=shape), random.integers(-8, 9, shape) / 4, random.integers(0, 9, shape)]
        )
        edge = random.choice(np.asarray(FLOATS), shape)
    else:
        tame = random.integers(-6, 12, shape)
        info = np.iinfo(kind)
        edge = random.choice(np.asarray([each for each in INTEGERS if info.min <= each <= info.max]), shape)
    wild = random.random(shape) if random.random() < 0.3 else np.full(shape, random.random())
    with np.errstate(all="ignore"):
        return np.where(wild < TAME, tame, edge).astype(kind)


def operand(draft: Draft, like: str) -> str:
    """Return a partner for an elementwise operation: another tensor of the shape, or a constant that broadcasts."""
    box, random = draft.box(like), draft.random
    if random.random() < 0.4:
        fitting = [
            name
            for name in draft.tensors(box.dtype.name)
            if draft.box(name).rows == box.rows and draft.box(name).low.ndim == box.low.ndim
        ]
        return str(random.choice(fitting))
    shape = [length if random.random() < 0.7 else 1 for length in box.low.shape]
    cut = int(random.integers(0, len(shape) + 1)) if random.random() < 0.6 else len(shape)
    return draft.constant(numbers(random, box.dtype, shape[cut:] if random.random() < 0.9 else shape))


def binary(draft: Draft, op: str, *kinds: str) -> str:
    """Append an operation on two tensors."""
    first = draft.pick(*kinds)
    second = first if draft.random.random() < 0.05 else operand(draft, first)
    pair = [first, second] if draft.random.random() < 0.75 else [second, first]
    return draft.add(op, pair)


def arithmetic(draft: Draft) -> str:
    """Append a sum, difference, product or quotient."""
    op = str(draft.random.choice(["Add", "Sub", "Mul", "Div", "Min", "Max", "Add", "Mul"]))
    return binary(draft, op, "float64", "int64", "int32", "float64")


def compare(draft: Draft) -> str:
    """Append a comparison."""
    op = str(draft.random.choice(["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]))
    return binary(draft, op, "float64", "int64", "int32")


def logic(draft: Draft) -> str:
    """Append And, Or or Not."""
    op = str(draft.random.choice(["And", "Or", "Not"]))
    return draft.add("Not", [draft.pick("bool")]) if op == "Not" else binary(draft, op, "bool")


def unary(draft: Draft) -> str:
    """Append an operation on one tensor."""
    op = str(draft.random.choice(["Neg", "Abs", "Sqrt", "Floor", "Round", "IsNaN", "Identity"]))
    return draft.add(op, [draft.pick()])


def fraction(draft: Draft) -> str:
    """Append x - Round(x), sometimes of two tensors."""
    x = draft.pick("float64")
    return draft.add("Sub", [x, draft.add("Round", [x])])


def cast(draft: Draft) -> str:
    """Append a Cast; rarely to a type that is not modelled."""
    kinds = [*TYPES.values()] * 4 + [TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT16]
    return draft.add("Cast", [draft.pick()], to=int(draft.random.choice(kinds)))


def guard(draft: Draft) -> str:
    """Append IsNaN and Where, sometimes the wrong way round or with another condition."""
    x = draft.pick("float64")
    random = draft.random
    absent = draft.add("IsNaN", [x if random.random() < 0.9 else draft.pick("float64")])
    if random.random() < 0.2:
        absent = draft.add("Or", [absent, draft.pick("bool")])
    fill = draft.constant(numbers(random, np.float64, [] if random.random() < 0.5 else [draft.box(x).low.shape[-1]]))
    return draft.add("Where", [absent, fill, x] if random.random() < 0.9 else [absent, x, fill])


def choose(draft: Draft) -> str:
    """Append a Where on any condition."""
    a = draft.pick("float64", "int64", "int32")
    b = operand(draft, a)
    return draft.add("Where", [draft.pick("bool"), *([a, b] if draft.random.random() < 0.5 else [b, a])])


def clip(draft: Draft) -> str:
    """Append a Clip with two, one or no limits."""
    x, random = draft.pick("float64", "int64", "int32"), draft.random
    dtype = draft.box(x).dtype
    low, high = np.sort(numbers(random, dtype, [2]))
    if random.random() < 0.05:
        low, high = high, low
    limits = [draft.constant(low), draft.constant(high)]
    missing = random.random()
    if missing < 0.15:
        limits = limits[:1]
    elif missing < 0.25:
        limits[0] = ""
    return draft.add("Clip", [x, *limits])


def steps(draft: Draft) -> str:
    """Append a Clip to a bounded interval and a Round to a grid, the way to sums."""
    random = draft.random
    x = draft.pick("float64")
    reach = 2.0 ** int(random.integers(0, 30))
    low, high = draft.constant(random.choice([-reach, 0.0, -reach / 3])), draft.constant(reach)
    grid = 2.0 ** int(random.integers(-1100, 900)) if random.random() < 0.2 else 2.0 ** int(random.integers(-20, 4))
    rounded = draft.add("Round", [draft.add("Clip", [x, low, high])])
    return draft.add("Mul", [rounded, draft.constant(grid)])


def codes(draft: Draft) -> str:
    """Append a Gather by codes from a constant table, the codes clipped well or nearly so."""
    random = draft.random
    count = int(random.integers(1, 9))
    k = draft.pick("int64", "int32")
    if random.random() < 0.8:
        limits = [draft.constant(value, draft.box(k).dtype) for value in (0, count - 1 + int(random.random() < 0.1))]
        k = draft.add("Clip", [k, *limits])
    table = numbers(
        random, str(random.choice(["float64", "int64", "int32", "bool"])), [count, *random.integers(1, 4, 1)]
    )
    return draft.add("Gather", [draft.constant(table), k], axis=0)


def columns(draft: Draft) -> str:
    """Append a Gather of columns."""
    x, random = draft.pick(), draft.random
    axis = int(random.integers(-draft.box(x).low.ndim, draft.box(x).low.ndim))
    length = draft.box(x).low.shape[axis]
    shape = [] if random.random() < 0.2 else [int(random.integers(1, 5))]
    indices = random.integers(-1 if random.random() < 0.1 else 0, length + int(random.random() < 0.1), shape)
    dtype = random.choice([np.int64, np.int32])
    return draft.add("Gather", [x, draft.constant(np.asarray(indices), dtype)], axis=axis)


def concat(draft: Draft) -> str:
    """Append a Concat of tensors of one type."""
    first = draft.pick()
    axis = int(draft.random.integers(-1, draft.box(first).low.ndim))
    return draft.add("Concat", [first, operand(draft, first), *[first] * int(draft.random.integers(0, 2))], axis=axis)


def reshape(draft: Draft) -> str:
    """Append a Reshape that may keep the rows."""
    x, random = draft.pick(), draft.random
    size = draft.box(x).low.size
    first = int(random.choice([each for each in range(1, size + 1) if size % each == 0]))
    shapes = [
        [-1, size],
        [0, first, -1],
        [-1, first, size // first],
        [0, -1],
        [first, size // first, -1],
        [size, -1],
        [-1],
    ]
    return draft.add("Reshape", [x, draft.constant(shapes[int(random.integers(len(shapes)))], np.int64)])


def axes(draft: Draft) -> str:
    """Append Unsqueeze, Squeeze, Transpose, Expand or Slice."""
    x, random = draft.pick(), draft.random
    rank = draft.box(x).low.ndim
    op = str(random.choice(["Unsqueeze", "Squeeze", "Transpose", "Expand", "Slice"]))
    place = [int(random.integers(-rank - 1, rank + 1))]
    if op in ("Unsqueeze", "Squeeze"):
        return draft.add(op, [x, draft.constant(place, np.int64)])
    if op == "Transpose":
        return draft.add(op, [x], perm=[0, *(1 + random.permutation(rank - 1)).tolist()])
    if op == "Expand":
        shape = [1] + [length if length > 1 else int(random.integers(1, 4)) for length in draft.box(x).low.shape[1:]]
        return draft.add(op, [x, draft.constant(shape, np.int64)])
    cut = [[int(random.choice([0, 1, -1, -2, -100]))], [int(random.choice([1, 2, -1, 100, 2**63 - 1]))]]
    return draft.add(op, [x, *(draft.constant(part, np.int64) for part in (*cut, place, [int(random.integers(1, 3))]))])


def weights(random: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Draw weights on a grid, rarely off it."""
    if random.random() < 0.1:
        return numbers(random, np.float64, shape)
    return np.ldexp(random.integers(-(2**12), 2**12, shape).astype(np.float64), int(random.integers(-30, 4)))


def gemm(draft: Draft) -> str:
    """Append a Gemm with a constant matrix on either side."""
    random = draft.random
    x = draft.pick("float64")
    box = draft.box(x)
    left = random.random() < 0.5
    turned, across = int(random.random() < 0.5), int(random.random() < 0.5)
    length, outputs = box.low.size, int(random.integers(1, 5))
    matrix = weights(random, [length, outputs] if left != bool(across) else [outputs, length])
    bias = draft.constant(weights(random, [outputs] if left else [outputs, 1]))
    if left:
        return draft.add("Gemm", [x, draft.constant(matrix), bias], transA=turned, transB=across)
    return draft.add("Gemm", [draft.constant(matrix), x, bias], transA=across, transB=turned)


def matmul(draft: Draft) -> str:
    """Append a MatMul of several constant matrices."""
    random = draft.random
    x = draft.pick("float64", rows=2)
    parts, width, _ = draft.box(x).low.shape
    return draft.add("MatMul", [draft.constant(weights(random, [parts, int(random.integers(1, 4)), width])), x])


def whole_numbers(draft: Draft, bits: int) -> str:
    """Append what makes integers below 2^bits of a tensor [rows, width]; returns them."""
    x = draft.pick("float64", rows=0)
    filled = draft.add("Where", [draft.add("IsNaN", [x]), draft.constant(0.0), x])
    reach = 2.0**bits
    clipped = draft.add("Clip", [filled, draft.constant(-reach), draft.constant(reach)])
    return draft.add("Round", [clipped])


def border(random: np.random.Generator, shape: Sequence[int], bits: int) -> np.ndarray:
    """Draw integers whose greatest is 2^bits or one unit beside, so that sums come close to 2^53."""
    values = random.integers(-(2**bits), 2**bits, shape, endpoint=True).astype(np.float64)
    values.flat[int(random.integers(values.size))] = 2.0**bits + random.integers(-1, 2)
    return values


def network(draft: Draft) -> str:
    """Append one to three products with the rows last in between, their sums as close to 2^53 as may be."""
    random = draft.random
    bits = int(random.integers(1, 40))
    x = whole_numbers(draft, bits)
    width, members, hidden = draft.box(x).low.shape[1], int(random.integers(1, 3)), int(random.integers(1, 4))
    units = 52 - bits - int(np.log2(width + 1)) + int(random.random() < 0.2)
    first = draft.constant(border(random, [members * hidden, width], max(units, 0)))
    bias = draft.constant(border(random, [members * hidden, 1], int(random.integers(0, 50))))
    sums = draft.add("Gemm", [first, x, bias], transB=1)
    if random.random() < 0.3:
        return draft.add("Unsqueeze", [draft.add("ReduceMax", [sums], axes=[0], keepdims=0), draft.constant([1])])
    limit = int(random.integers(1, 30))
    limits = [draft.constant(0.0), *([draft.constant(2.0**limit)] if random.random() < 0.9 else [])]
    carried = draft.add("Round", [draft.add("Clip", [sums, *limits])])
    if random.random() < 0.6:
        carried = draft.add("Reshape", [carried, draft.constant([members, hidden, -1])])
        matrices = draft.constant(border(random, [members, hidden, hidden], max(50 - limit, 0)))
        carried = draft.add("Clip", [draft.add("MatMul", [matrices, carried]), *limits])
        carried = draft.add("Reshape", [carried, draft.constant([members * hidden, -1])])
    last = draft.constant(border(random, [members * hidden, 2], max(49 - limit, 0)))
    return draft.add("Gemm", [carried, last, draft.constant(np.zeros(2))], transA=1)


def share(draft: Draft) -> str:
    """Append a sum of integers along an axis, and the quotient by it; or a root."""
    random = draft.random
    x = draft.add("Abs", [whole_numbers(draft, int(random.integers(1, 52)))])
    if random.random() < 0.3:
        return draft.add("Sqrt", [x])
    total = draft.add("ReduceSum", [x, draft.constant([1])], keepdims=1)
    positive = draft.add("Max", [total, draft.constant(random.choice([1.0, 5e-324, 2.0**60]))])
    return draft.add("Div", [x, positive])


def reduction(draft: Draft) -> str:
    """Append a ReduceSum or ReduceMax."""
    x, random = draft.pick("float64", "float64", "int64"), draft.random
    places = [int(random.integers(-draft.box(x).low.ndim, draft.box(x).low.ndim))]
    keep = int(random.random() < 0.5)
    if random.random() < 0.5:
        return draft.add("ReduceMax", [x], axes=places, keepdims=keep)
    return draft.add("ReduceSum", [x, draft.constant(places, np.int64)], keepdims=keep)


STEPS: tuple[Callable[[Draft], str], ...] = (
    *(arithmetic, arithmetic, arithmetic, unary, unary, compare, logic, cast, cast, guard, guard, choose, clip, clip),
    *(
        network,
        network,
        share,
        steps,
        steps,
        codes,
        columns,
        concat,
        reshape,
        axes,
        gemm,
        matmul,
        reduction,
        reduction,
        fraction,
    ),
)


def grow(draft: Draft) -> None:
    """Append a random step; a refused one is undone."""
    before = len(draft.nodes)
    try:
        draft.random.choice(np.asarray(STEPS, object))(draft)
    except (ProofError, LookupError):
        draft.refused += 1
        draft.undo(before)


def settle(draft: Draft, name: str) -> None:
    """Make a tensor an output: limited where it may not be finite, and its zeros settled where it is a float."""
    box = draft.box(name)
    if box.rows != 0:
        return
    if not box.finite and box.dtype.kind == "f":
        absent = draft.add("IsNaN", [name])
        name = draft.add("Where", [absent, draft.constant(0.5), name])
        name = draft.add("Clip", [name, draft.constant(-1e30), draft.constant(1e30)])
    dtype = box.dtype
    if dtype.kind == "f" and draft.random.random() < 0.5:
        name, dtype = draft.add("Cast", [name], to=TensorProto.FLOAT), np.dtype(np.float32)
    shape = draft.box(name).low.shape[-int(draft.random.integers(0, 2)) or draft.box(name).low.ndim :]
    last = ["Add", name, draft.constant(np.zeros(shape), dtype)] if dtype.kind == "f" else ["Identity", name]
    name = draft.add(last[0], last[1:])
    dims = ["rows", *draft.box(name).low.shape[1:]]
    draft.outputs.append(helper.make_tensor_value_info(name, TYPES[dtype.name], dims))


def draw(random: np.random.Generator, longest: int = 40) -> onnx.ModelProto:
    """Draw a graph of up to `longest` steps; most are certified, a third has been changed in one place since."""
    draft = Draft(random)
    for _ in range(int(random.integers(4, longest))):
        grow(draft)
    names = [node.output[0] for node in draft.nodes]
    read = {name for node in draft.nodes for name in node.input}
    ends = [name for name in names if name not in read] or names[-1:]
    for name in ends[-6:]:
        before = len(draft.nodes)
        try:
            settle(draft, name)
        except ProofError:
            draft.undo(before)
    model = draft.model()
    if random.random() < 0.34:
        near_miss(model, random)
    return model


def near_miss(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Change one thing of a graph."""
    change = random.choice(
        np.asarray([change_constant, change_constant, rewire, swap, drop_operand, change_attribute], object)
    )
    if model.graph.node:
        change(model.graph, random)


def change_constant(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Put an edge in the place of one number of a constant."""
    if not graph.initializer:
        return
    stored = graph.initializer[int(random.integers(len(graph.initializer)))]
    value = numpy_helper.to_array(stored).copy()
    nearby = value.dtype.kind != "b" and random.random() < 0.5
    place = int(random.integers(value.size))
    with np.errstate(all="ignore"):
        if nearby and value.dtype.kind == "i":
            value.flat[place] ^= value.dtype.type(1)
        elif nearby:
            value.flat[place] = np.nextafter(value.flat[place], random.choice([-np.inf, np.inf]))
        else:
            value.flat[place] = numbers(random, value.dtype, [1])[0]
    stored.CopyFrom(numpy_helper.from_array(value, stored.name))


def rewire(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Let a node read another tensor."""
    place = int(random.integers(len(graph.node)))
    node = graph.node[place]
    names = [value.name for value in (*graph.input, *graph.initializer)]
    names += [each.output[0] for each in graph.node[:place]]
    if node.input:
        node.input[int(random.integers(len(node.input)))] = str(random.choice(names))


def swap(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Give a node another operator of as many operands."""
    node = graph.node[int(random.integers(len(graph.node)))]
    families = (
        ("Add", "Sub", "Mul", "Div", "Min", "Max", "Mod"),
        ("Neg", "Abs", "Floor", "Round", "Sqrt", "Identity", "Ceil", "Relu"),
        ("Equal", "Less", "Greater", "LessOrEqual"),
        ("And", "Or", "Xor"),
    )
    for family in families:
        if node.op_type in family:
            node.op_type = str(random.choice(family))


def drop_operand(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Leave out a node's last operand, or a limit."""
    node = graph.node[int(random.integers(len(graph.node)))]
    if len(node.input) > 1 and random.random() < 0.5:
        node.input[int(random.integers(1, len(node.input)))] = ""
    elif len(node.input) > 1:
        del node.input[-1]


def change_attribute(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Change a number among the attributes."""
    having = [node for node in graph.node if node.attribute]
    if not having:
        return
    attribute = random.choice(np.asarray(having, object)).attribute[0]
    if attribute.ints:
        attribute.ints[int(random.integers(len(attribute.ints)))] += int(random.choice([-1, 1]))
    else:
        attribute.i = int(random.choice([attribute.i + 1, attribute.i - 1, -attribute.i]))
