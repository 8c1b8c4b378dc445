"""Steps that move numbers: gathers, joins and shapes."""

import numpy as np

from bench.random_graphs.drafts import Draft, numbers, operand


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
