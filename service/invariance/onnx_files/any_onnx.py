"""Any ONNX file with a batch axis, made fit for the check: its inputs drawn at random, its outputs as plain arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from batchproof.service.errors import EngineError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.runner import Feeds
from batchproof.service.invariance.onnx_files.onnx_inputs import Input, Node, check_bytes, settle
from batchproof.service.invariance.onnx_files.onnx_outputs import arrays_of, batch_axis, sequences_by_row


class Session(Protocol):
    """What is needed of an engine: feeds come in the order of its inputs."""

    @property
    def inputs(self) -> Sequence[Node]:
        """Return the inputs of the graph."""

    @property
    def description(self) -> Mapping[str, Any]:
        """Return what the bits are made by."""

    def run(self, feeds: Feeds) -> Mapping[str, Any]:
        """Return the outputs of one batch, sequences and maps among them; raises EngineError."""


@dataclass(frozen=True)
class BatchOptions:
    """What the file does not say of its inputs."""

    dims: Mapping[str, int] = field(default_factory=dict)  # axis name or INPUT.AXIS -> length
    # The batch axis's name or INPUT.AXIS; None: the first axis, or a name that two inputs share.
    batch: str | None = None
    shapes: Mapping[str, Sequence[int | str]] = field(default_factory=dict)  # of inputs whose shape the file leaves out
    integers_below: int = 2
    batch_rows: int = 512  # the largest batch that will run


@dataclass
class OnnxModel:
    """An ONNX graph of unknown meaning.

    `run` accepts the inputs that have a batch axis and returns the outputs that have one, rows first.
    """

    session: Session
    inputs: list[Input]
    integers_below: int = 2
    row_axes: dict[str, int] = field(default_factory=dict)  # output -> its batch axis, found by running the graph
    by_row: frozenset[str] = frozenset()  # outputs that are sequences with an entry for each row
    without_rows: list[str] = field(default_factory=list)  # outputs that do not follow the batch: not compared
    is_repeatable: bool = True  # whether the same batch gave the same bits twice

    def run(self, feeds: Feeds) -> Outputs:
        """Run one batch, constants filled in; raises EngineError."""
        outputs = self.arrays(self._run(feeds))
        missing = [name for name in self.row_axes if name not in outputs]
        if missing:
            raise EngineError(f"the output {missing[0]!r:.100} is left out in some batches")
        return {name: np.moveaxis(outputs[name], axis, 0) for name, axis in self.row_axes.items()}

    @property
    def description(self) -> Mapping[str, Any]:
        """Return what the bits are made by."""
        return self.session.description

    def draw(self, number: int) -> list[np.ndarray | None]:
        """Return rows of random inputs; draw 0 begins with zeros of both signs and ones."""
        random = np.random.default_rng([1, number])
        batched = [node for node in self.inputs if node.batch_axis is not None]
        return [node.rows(random, edges=number == 0, integers_below=self.integers_below) for node in batched]

    def first(self, rows: int) -> Mapping[str, Any]:
        """Run the first batch of so many rows; returns every output as it is. Raises EngineError that names the batch."""
        try:
            return self._run([None if array is None else array[:rows] for array in self.draw(1)])
        except EngineError as error:
            raise EngineError(f"a batch of {rows} random rows: {error}") from error

    def arrays(self, outputs: Mapping[str, Any]) -> Outputs:
        """Return outputs as plain arrays; raises EngineError where those of the rows differ in shape."""
        try:
            return arrays_of(outputs, self.by_row)
        except ValueError as error:
            raise EngineError(f"the entries of a sequence, one for each row, differ in shape: {error}") from error

    def _run(self, feeds: Feeds) -> Mapping[str, Any]:
        batches = iter(feeds)
        whole = [
            self._constants[node.name] if node.batch_axis is None else node.placed(_present(next(batches)))
            for node in self.inputs
        ]
        return self.session.run(whole)

    @cached_property
    def _constants(self) -> dict[str, np.ndarray]:
        random = np.random.default_rng(0)
        constant = [node for node in self.inputs if node.batch_axis is None]
        return {node.name: node.values(node.row_shape, random, self.integers_below) for node in constant}


def prepare(session: Session, options: BatchOptions | None = None) -> OnnxModel:
    """Settle the inputs by the options, and see which outputs follow the batch.

    Raises ValueError with a sentence where no batch can be made, EngineError where the graph does not run.
    """
    options = options or BatchOptions()
    inputs = settle(session.inputs, options.dims, options.batch, options.shapes)
    check_bytes(inputs, options.batch_rows)
    model = OnnxModel(session, inputs, options.integers_below)
    firsts = [model.first(rows) for rows in (2, 2, 3)]
    model.by_row = sequences_by_row(firsts[0], firsts[2])
    two, again, three = map(model.arrays, firsts)
    axes = {name: batch_axis(two[name], three.get(name)) for name in two}
    model.row_axes = {name: axis for name, axis in axes.items() if axis is not None}
    model.without_rows = [name for name, axis in axes.items() if axis is None]
    if not model.row_axes:
        raise ValueError(f"none of the outputs ({', '.join(two)}) has one entry for each row of the batch")
    model.is_repeatable = all(two[name].tobytes() == again[name].tobytes() for name in model.row_axes)
    return model


def _present(array: np.ndarray | None) -> np.ndarray:
    assert array is not None, "every input with a batch axis has rows"
    return array
