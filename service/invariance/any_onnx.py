"""Any ONNX file with a batch axis, made fit for the check: its inputs drawn at random, its outputs as plain arrays."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from batchproof.service.errors import EngineError, nearest
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.runner import Feeds

TYPE_NAMES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(string)": "string"}
DTYPES = frozenset(
    [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    + ["float16", "float32", "float64", "bool", "string"]
)
WORDS = np.array(["", "a", "b", "A", "0", "yes", "no", "naïve"], dtype=object)
SCALES = (1.0, 1.0, 0.01, 100.0)  # of normally distributed rows, in turn
ROWS = 48  # of each draw

Node = tuple[str, str, Sequence[Any]]  # name, type, shape; an axis of any length has a name or None


class Session(Protocol):
    """What is needed of an engine: feeds come in the order of its inputs."""

    @property
    def inputs(self) -> Sequence[Node]:
        """Return the inputs of the graph."""

    @property
    def description(self) -> Mapping[str, Any]:
        """Return what the bits are made by."""

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs of one batch; raises EngineError."""


@dataclass(frozen=True)
class Input:
    """One input of the graph, with every free axis but the first settled."""

    name: str
    dtype: str
    row_shape: tuple[int, ...]  # without the batch axis; of a constant: the whole shape
    is_constant: bool  # whether it has no batch axis: every run gets the same values


@dataclass
class OnnxModel:
    """A graph of unknown meaning. `run` takes the inputs with a batch axis, and gives the outputs with one."""

    session: Session
    inputs: list[Input]
    integers_below: int = 2
    with_rows: list[str] = field(default_factory=list)  # outputs [rows, ...], found by running it
    without_rows: list[str] = field(default_factory=list)  # outputs that do not follow the batch: not compared
    is_repeatable: bool = True  # whether the same batch gave the same bits twice

    def run(self, feeds: Feeds) -> Outputs:
        """Run one batch, constants filled in."""
        random = np.random.default_rng(0)
        rows = iter(feeds)
        whole = [self._values(one, one.row_shape, random) if one.is_constant else next(rows) for one in self.inputs]
        outputs = self.session.run(whole)
        names = self.with_rows or list(outputs)
        return {name: plain(outputs[name]) for name in names}

    @property
    def description(self) -> Mapping[str, Any]:
        """Return what the bits are made by."""
        return self.session.description

    def draw(self, number: int) -> list[np.ndarray | None]:
        """Return rows of random inputs; draw 0 begins with zeros of both signs and ones."""
        random = np.random.default_rng([1, number])
        return [self._rows(one, random, edges=number == 0) for one in self.inputs if not one.is_constant]

    def _rows(self, one: Input, random: np.random.Generator, *, edges: bool) -> np.ndarray:
        values = self._values(one, (ROWS, *one.row_shape), random)
        if np.issubdtype(values.dtype, np.floating):
            scales = np.resize(SCALES, ROWS).reshape(-1, *[1] * len(one.row_shape))
            values = (values * scales).astype(values.dtype)
            if edges:
                values[0], values[1], values[2] = 0.0, -0.0, 1.0
        return values

    def _values(self, one: Input, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        if one.dtype == "string":
            return random.choice(WORDS, shape)
        if one.dtype == "bool":
            return random.random(shape) < 0.5
        if one.dtype.startswith("float"):
            return random.standard_normal(shape).astype(one.dtype)
        return random.integers(0, self.integers_below, shape).astype(one.dtype)


def prepare(session: Session, dims: Mapping[str, int] | None = None, integers_below: int = 2) -> OnnxModel:
    """Settle the inputs with `dims` {axis name or INPUT.AXIS: length}, and see which outputs follow the batch.

    Raises ValueError with a sentence where no batch can be made, EngineError where the graph does not run.
    """
    dims = dims or {}
    _check_known(dims, session.inputs)
    inputs = [_input(node, dims) for node in session.inputs]
    if all(one.is_constant for one in inputs):
        shapes = ", ".join(f"{name} {list(shape)}" for name, _, shape in session.inputs)
        raise ValueError(
            f"no input has a free first axis to batch along ({shapes or 'there are no inputs'}): "
            "export the model again with a dynamic batch axis"
        )
    foreign = OnnxModel(session, inputs, integers_below)
    two, again, three = (_first(foreign, rows) for rows in (2, 2, 3))
    follows = {name: len(two[name].shape) > 0 and (len(two[name]), len(three[name])) == (2, 3) for name in two}
    foreign.with_rows = [name for name in two if follows[name]]
    foreign.without_rows = [name for name in two if not follows[name]]
    if not foreign.with_rows:
        raise ValueError(f"none of the outputs ({', '.join(two)}) has one entry for each row of the batch")
    foreign.is_repeatable = all(two[name].tobytes() == again[name].tobytes() for name in foreign.with_rows)
    return foreign


def plain(output: Any) -> np.ndarray:
    """Return an output as an array of numbers: maps by sorted key, strings by a checksum of each.

    Raises ValueError where it is neither.
    """
    if isinstance(output, list) and output and isinstance(output[0], dict):
        return np.array([[one[key] for key in sorted(one)] for one in output])
    array = np.asarray(output)
    if array.dtype.kind in "OUS":
        checksums = [zlib.crc32(str(value).encode()) for value in array.reshape(-1)]
        return np.array(checksums, dtype=np.uint32).reshape(array.shape)
    return array


def _first(foreign: OnnxModel, rows: int) -> Outputs:
    try:
        return foreign.run([None if array is None else array[:rows] for array in foreign.draw(1)])
    except EngineError as error:
        raise EngineError(f"a batch of {rows} random rows: {error}") from error


def _check_known(dims: Mapping[str, int], nodes: Sequence[Node]) -> None:
    """Raise ValueError for a length of an axis that is not there or not free."""
    free = [
        label
        for name, _, shape in nodes
        for axis, length in enumerate(shape)
        if not isinstance(length, int) or length < 0
        for label in (f"{name}.{axis}", *([length] if isinstance(length, str) else []))
    ]
    for name in dims:
        if name not in free:
            there = f"free are {', '.join(dict.fromkeys(free))}" if free else "no axis is free"
            raise ValueError(f"--dim {name}: the graph has no such free axis; {there}.{nearest(name, free)}")


def _input(node: Node, dims: Mapping[str, int]) -> Input:
    name, type_name, shape = node
    dtype = TYPE_NAMES.get(type_name, type_name.removeprefix("tensor(").removesuffix(")"))
    if dtype not in DTYPES:
        raise ValueError(f"input {name!r} has type {type_name}, for which no random values can be made")
    lengths = [_length(name, axis, length, dims) for axis, length in enumerate(shape)]
    is_constant = not lengths or lengths[0] is not None
    rest = lengths if is_constant else lengths[1:]
    for axis, length in enumerate(rest, start=0 if is_constant else 1):
        if length is None:
            label = shape[axis] or f"{name}.{axis}"
            raise ValueError(f"input {name!r} has a free axis {axis}; give its length: --dim {label}=8, for example")
    return Input(name, dtype, tuple(length for length in rest if length is not None), is_constant)


def _length(name: str, axis: int, length: Any, dims: Mapping[str, int]) -> int | None:
    """Return the length of an axis, None where it is free."""
    if isinstance(length, int) and length >= 0:
        return length
    return dims.get(f"{name}.{axis}", dims.get(str(length)))
