"""Steps that compute each number of a tensor by itself."""

import numpy as np
from onnx import TensorProto

from bench.random_graphs.drafts import TYPES, Draft, numbers, operand


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
