"""The inputs of any ONNX file: which axis of each is the batch, how long the others are, and random values for them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchproof.service.errors import nearest

TYPE_NAMES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(string)": "string"}
DTYPES = frozenset(
    [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    + ["float16", "float32", "float64", "bool", "string"]
)
WORDS = np.array(["", "a", "b", "A", "0", "yes", "no", "naïve"], dtype=object)
SCALES = (1.0, 1.0, 0.01, 100.0)  # of normally distributed rows, one after the other
ROWS = 48  # of each draw
MAX_INPUTS = 1000
MAX_AXES = 16
MAX_BYTES = 256 << 20  # of all inputs of the largest batch

Node = tuple[str, str, Sequence[Any]]  # name, type, shape; an axis of any length has a name or None


@dataclass(frozen=True)
class Input:
    """One input of the graph, with every axis but the batch settled."""

    name: str
    dtype: str
    row_shape: tuple[int, ...]  # without the batch axis; of a constant: the whole shape
    batch_axis: int | None  # None: it has no batch axis, and every run gets the same values

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one row, or of the whole constant."""
        return math.prod(self.row_shape) * (8 if self.dtype == "string" else np.dtype(self.dtype).itemsize)

    def rows(self, random: np.random.Generator, *, edges: bool, integers_below: int) -> np.ndarray:
        """Draw ROWS rows, [rows, ...]; with `edges` they begin with zeros of both signs and ones."""
        values = self.values((ROWS, *self.row_shape), random, integers_below)
        if np.issubdtype(values.dtype, np.floating):
            scales = np.resize(SCALES, ROWS).reshape(-1, *[1] * len(self.row_shape))
            values = (values * scales).astype(values.dtype)
            if edges:
                values[0], values[1], values[2] = 0.0, -0.0, 1.0
        return values

    def values(self, shape: tuple[int, ...], random: np.random.Generator, integers_below: int) -> np.ndarray:
        """Draw values of the input's type."""
        if self.dtype == "string":
            return random.choice(WORDS, shape)
        if self.dtype == "bool":
            return random.random(shape) < 0.5
        if self.dtype.startswith("float"):
            return random.standard_normal(shape).astype(self.dtype)
        return random.integers(0, integers_below, shape).astype(self.dtype)

    def placed(self, rows: np.ndarray) -> np.ndarray:
        """Return [rows, ...] as the graph expects them: with the rows at the batch axis."""
        return rows if not self.batch_axis else np.ascontiguousarray(np.moveaxis(rows, 0, self.batch_axis))


def settle(
    nodes: Sequence[Node],
    dims: Mapping[str, int],
    batch: str | None = None,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
) -> list[Input]:
    """Settle every axis: `dims` {axis name or INPUT.AXIS: length}, `batch` the batch axis's name, `shapes` {input: shape}.

    Raises ValueError with a sentence where no batch can be made.
    """
    if len(nodes) > MAX_INPUTS:
        raise ValueError(f"the graph has {len(nodes)} inputs; at most {MAX_INPUTS} can be checked")
    nodes = _reshaped(nodes, shapes or {})
    _check_known(dims, batch, nodes)
    lengths = [_lengths(node, dims) for node in nodes]
    label = batch or _shared_label(nodes, lengths)
    inputs = [_input(node, sizes, label) for node, sizes in zip(nodes, lengths, strict=True)]
    if all(node.batch_axis is None for node in inputs):
        raise ValueError(_no_batch(nodes))
    return inputs


def check_bytes(inputs: Sequence[Input], batch_rows: int) -> None:
    """Raise ValueError where a batch of so many rows would be too large to draw."""
    for node in inputs:
        rows = 1 if node.batch_axis is None else max(batch_rows, ROWS)
        if node.row_bytes * rows > MAX_BYTES:
            per = "" if node.batch_axis is None else f" a row, too much for batches of {rows} rows"
            raise ValueError(f"input {node.name!r:.100} has {node.row_bytes} bytes{per}; at most {MAX_BYTES} are drawn")


def _reshaped(nodes: Sequence[Node], shapes: Mapping[str, Sequence[int | str]]) -> list[Node]:
    names = [name for name, _, _ in nodes]
    for name in shapes:
        if name not in names:
            raise ValueError(f"--shape {name}: the graph has no such input.{nearest(name, names)}")
    return [(name, kind, shapes.get(name, shape)) for name, kind, shape in nodes]


def _check_known(dims: Mapping[str, int], batch: str | None, nodes: Sequence[Node]) -> None:
    """Raise ValueError for an axis that is not there or not free."""
    free = [
        label
        for name, _, shape in nodes
        for axis, length in enumerate(shape)
        if not isinstance(length, int) or length < 0
        for label in (f"{name}.{axis}", *([length] if isinstance(length, str) else []))
    ]
    for option, label in (*(("--dim", name) for name in dims), *((("--batch", batch),) if batch else ())):
        if label not in free:
            there = f"free are {', '.join(dict.fromkeys(free))}" if free else "no axis is free"
            raise ValueError(f"{option} {label}: the graph has no such free axis; {there}.{nearest(label, free)}")


def _lengths(node: Node, dims: Mapping[str, int]) -> list[int | None]:
    """Return the length of each axis, None where it is free."""
    name, _, shape = node
    if len(shape) > MAX_AXES:
        raise ValueError(f"input {name!r:.100} has {len(shape)} axes; at most {MAX_AXES} can be checked")
    return [
        length if isinstance(length, int) and length >= 0 else dims.get(f"{name}.{axis}", dims.get(str(length)))
        for axis, length in enumerate(shape)
    ]


def _shared_label(nodes: Sequence[Node], lengths: Sequence[list[int | None]]) -> str | None:
    """Return the name that the batch axis has in inputs where it is not the first; None where it is the first in all.

    It is a name that is first in one input and elsewhere in another. In a single input, a free axis that is not
    the first could also be the length of a sequence.
    """
    places: dict[str, Counter[int]] = {}
    for (_, _, shape), sizes in zip(nodes, lengths, strict=True):
        for axis, (label, size) in enumerate(zip(shape, sizes, strict=True)):
            if size is None and isinstance(label, str):
                places.setdefault(label, Counter())[axis] += 1
    moved = [label for label, axes in places.items() if axes[0] and len(axes) > 1]
    return max(moved, key=lambda label: places[label].total(), default=None)


def _input(node: Node, lengths: Sequence[int | None], label: str | None) -> Input:
    name, type_name, shape = node
    dtype = TYPE_NAMES.get(type_name, type_name.removeprefix("tensor(").removesuffix(")"))
    if dtype not in DTYPES:
        raise ValueError(f"input {name!r:.100} has type {type_name:.100}, for which no random values can be made")
    free = [axis for axis, length in enumerate(lengths) if length is None]
    if label is None:
        batch_axis = 0 if 0 in free else None
    else:
        named = [axis for axis in free if label in (shape[axis], f"{name}.{axis}")]
        if len(named) > 1:
            raise ValueError(f"input {name!r:.100} has the batch axis {label!r:.100} at {len(named)} places")
        batch_axis = named[0] if named else None
    for axis in free:
        if axis != batch_axis:
            option = shape[axis] or f"{name}.{axis}"
            raise ValueError(
                f"input {name!r:.100} has a free axis {axis}; give its length: --dim {option}=8, for example, "
                f"or, if it is the batch axis, say so: --batch {option}"
            )
    rest = [length for axis, length in enumerate(lengths) if axis != batch_axis and length is not None]
    return Input(name, dtype, tuple(rest), batch_axis)


def _no_batch(nodes: Sequence[Node]) -> str:
    """Say why there is no batch axis, and what can be done."""
    shown = ", ".join(f"{name} {list(shape)}" for name, _, shape in nodes[:10]) or "there are no inputs"
    advice = "export the model again with a dynamic batch axis"
    if unranked := [name for name, _, shape in nodes if not shape]:
        advice = f"where the file states no shape, give it: --shape {unranked[0]}=rows,4, for example; else {advice}"
    return f"no input has a free first axis to batch along ({shown}): {advice}"
