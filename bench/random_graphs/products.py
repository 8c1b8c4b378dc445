"""Steps that sum: products with constant matrices, whole networks and reductions."""

from collections.abc import Sequence

import numpy as np

from bench.random_graphs.drafts import Draft, numbers


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
