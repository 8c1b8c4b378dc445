"""Which steps are taken, and how a graph ends."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from batchproof.training.prove.box import ProofError
from bench.random_graphs.changes import near_miss
from bench.random_graphs.drafts import TYPES, Draft
from bench.random_graphs.elementwise import (
    arithmetic,
    cast,
    choose,
    clip,
    compare,
    fraction,
    guard,
    logic,
    steps,
    unary,
)
from bench.random_graphs.movement import axes, codes, columns, concat, reshape
from bench.random_graphs.products import gemm, matmul, network, reduction, share

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
