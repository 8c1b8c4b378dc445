"""Encode raw feature values, missing ones included, as the network's input: fitted on training rows, emitted as nodes.

There is one implementation, the graph: training also gets its matrix by running the emitted nodes. Exported graphs have the same
nodes with other constants, as `Form` says, which saves them nodes that only multiply.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.preprocessing.categories.onehot import OneHot
from batchproof.training.preprocessing.numbers import piecewise, scaling
from batchproof.training.preprocessing.numbers.calendar import Calendar
from batchproof.training.preprocessing.numbers.periodic import Periodic
from batchproof.training.preprocessing.numbers.piecewise import Piecewise
from batchproof.training.preprocessing.numbers.scaling import Scaling
from batchproof.training.preprocessing.onnx_graph import Graph, TensorProto

CHUNK_ROWS = 256  # rows encoded at a time: so few that the float64 intermediates stay in a core's cache


class Emitted(NamedTuple):
    """What `Preprocess.emit` appended."""

    x: str  # [rows, width] float64, column j within [-bounds[j], bounds[j]]
    bounds: np.ndarray  # [width] float64


@dataclass(frozen=True)
class Form:
    """In which multiples a graph holds the encoded numbers, and whether each of its operations must be rounded once in any engine."""

    scaled: float = scaling.BOUND  # the greatest scaled value
    binned: float = piecewise.HEIGHT  # a full bin
    wave: float = 1.0  # the greatest value of a wave
    is_exact: bool = True


TRAINED = Form()  # what the network is fitted to: columns of x as they are


@dataclass(frozen=True)
class Preprocess:
    """The fitted encodings of one table."""

    categorical: int  # categorical columns of the table, one-hot and embedded ones
    fill: np.ndarray  # [numeric columns] float64, replaces NaN
    missing: np.ndarray  # [indicators] int64, numeric columns with an indicator of missing values
    embedded: np.ndarray  # [embeddings] int64, categorical columns that the network embeds
    scaling: Scaling | None = field(default=None)
    piecewise: Piecewise | None = field(default=None)
    periodic: Periodic | None = field(default=None)
    onehot: OneHot | None = field(default=None)
    # [n] int64, numeric columns whose encoding keeps their order bit for bit; the network then does so too
    ordered: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    calendar: Calendar | None = field(default=None)  # further numeric columns, behind the table's own

    @property
    def columns(self) -> int:
        """Number of numeric columns that are encoded: the table's own and the calendar parts of its dates."""
        return len(self.fill) + (0 if self.calendar is None else len(self.calendar.column))

    @property
    def bounds(self) -> np.ndarray:
        """Greatest absolute value of each column of x [width] float64."""
        parts = [part.bounds for part in (self.scaling, self.piecewise, self.periodic) if part is not None]
        parts.append(np.ones(len(self.missing)))
        if self.onehot is not None:
            parts.append(self.onehot.bounds)
        return np.concatenate(parts)

    @property
    def width(self) -> int:
        """Number of columns of x."""
        return len(self.bounds)

    @property
    def bins(self) -> slice:
        """Which columns of x are piecewise-linear bins."""
        start = 0 if self.scaling is None else len(self.scaling.center)
        return slice(start, start + (0 if self.piecewise is None else len(self.piecewise.column)))

    def directions(self, numeric: np.ndarray) -> np.ndarray:
        """Return the direction of each column of x [width] int8, given those of the numeric columns [columns]: 1, -1 or 0.

        Scaled values and bins grow with their column. Waves and calendar parts do not, and are only of columns without a
        direction; whether a value is missing has none.
        """
        numeric = np.pad(numeric, (0, self.columns - len(numeric)))
        parts = [] if self.scaling is None else [numeric]
        parts += [] if self.piecewise is None else [numeric[self.piecewise.column]]
        known = np.concatenate([np.zeros(0), *parts])
        return np.pad(known, (0, self.width - len(known))).astype(np.int8)

    def declare(self, graph: Graph) -> tuple[str | None, str | None]:
        """Declare the graph's inputs `numeric` and `categorical`, where the table has such columns."""
        columns = len(self.fill)
        numeric = graph.input("numeric", TensorProto.DOUBLE, columns) if columns else None
        return numeric, graph.input("categorical", TensorProto.INT64, self.categorical) if self.categorical else None

    def emit(self, graph: Graph, numeric: str | None, categorical: str | None) -> Emitted:
        """Append the nodes that encode the graph's inputs as x, the input of the first layer."""
        parts = self.emit_numeric(graph, numeric, TRAINED)
        if self.onehot is not None and categorical is not None:
            parts.append(self.onehot.emit(graph, categorical))
        x = graph.add("Concat", parts, "encoded", axis=1) if len(parts) > 1 else parts[0]
        return Emitted(x, self.bounds)

    def factors(self, form: Form) -> np.ndarray:
        """Return by what the numeric columns of `form` are multiplied to be those of x [numeric part of x] float64."""
        parts = (self.scaling, scaling.BOUND / form.scaled), (self.piecewise, piecewise.HEIGHT / form.binned)
        waves = (self.periodic, 1.0 / form.wave)
        known = [np.full(len(part.bounds), factor) for part, factor in (*parts, waves) if part is not None]
        return np.concatenate([*known, np.ones(len(self.missing))])

    def emit_numeric(self, graph: Graph, numeric: str | None, form: Form) -> list[str]:
        """Append the nodes that encode `numeric` in a form; returns the parts, [rows, ..] float64 each, none where it is None."""
        if self.scaling is None or numeric is None:
            return []
        absent = graph.add("IsNaN", [numeric], "absent")
        filled = graph.add("Where", [absent, graph.constant("fill", self.fill), numeric], "filled")
        if self.calendar is not None:
            filled = graph.add("Concat", [filled, self.calendar.emit(graph, filled)], "with_calendar", axis=1)
        is_near = self._is_near
        far = scaling.FAR if is_near else piecewise.FAR
        finite = graph.add("Clip", [filled, *scaling.limits(graph, "far", -far, far)], "finite")
        multiple = scaling.Multiple(form.scaled, is_near=is_near, is_limited=form.is_exact)
        scaled = self.scaling.emit(graph, finite if is_near else filled, self.ordered, multiple)
        parts = [scaled]
        if self.piecewise is not None:
            is_exact = form.is_exact or not is_near
            parts.append(self.piecewise.emit(graph, finite, self.columns, form.binned, is_exact=is_exact))
        if self.periodic is not None:
            unit = form.scaled / scaling.BOUND
            parts.append(self.periodic.emit(graph, scaled, self.columns, unit, form.wave))
        if len(self.missing):
            flags = graph.add("Cast", [absent], "absent_flags", to=TensorProto.DOUBLE)
            parts.append(graph.add("Gather", [flags, graph.constant("absent_column", self.missing)], "missing", axis=1))
        return parts

    @property
    def _is_near(self) -> bool:
        """Whether values may be limited to `scaling.FAR`, and squared: no center and no bin is near it, and no spread is extreme."""
        assert self.scaling is not None
        if self.piecewise is None:
            return self.scaling.is_usual
        low, slope, far = self.piecewise.low, self.piecewise.slope, scaling.FAR / 2.0
        return self.scaling.is_usual and bool((np.abs(low) <= far).all() and (slope >= 1.0 / far).all())

    def transform(self, raw: Arrays) -> np.ndarray:
        """Encode rows; returns [rows, width] float32."""
        return self.encoder().encode(raw)

    def encoder(self) -> "Encoder":
        """Return what encodes rows: an engine that runs the emitted nodes."""
        return Encoder(Engine(self._model(), EngineOptions(device="cpu")), self.width)

    def _model(self) -> bytes:
        graph = Graph()
        x = graph.add("Cast", [self.emit(graph, *self.declare(graph)).x], "single", to=TensorProto.FLOAT)
        graph.output("x", x, TensorProto.FLOAT, self.width)
        model: bytes = graph.model("preprocess").SerializeToString()
        return model

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the fitted arrays by name, for a safetensors file."""
        arrays = {
            "categorical": np.asarray(self.categorical),
            "fill": self.fill,
            "missing": self.missing,
            "embedded": self.embedded,
        }
        if len(self.ordered):
            arrays["ordered"] = self.ordered
        for name in PARTS:
            part = getattr(self, name)
            if part is not None:
                arrays |= {f"{name}.{entry.name}": getattr(part, entry.name) for entry in fields(part)}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Preprocess":
        """Rebuild from what `to_arrays` returned. Raises KeyError for a missing array."""
        parts = {
            name: kind(*(arrays[f"{name}.{entry.name}"] for entry in fields(kind)))
            for name, kind in PARTS.items()
            if any(key.startswith(f"{name}.") for key in arrays)
        }
        ordered = arrays.get("ordered", np.zeros(0, np.int64))
        plain = (arrays["categorical"].item(), arrays["fill"], arrays["missing"], arrays["embedded"])
        return cls(*plain, **parts, ordered=ordered)


@dataclass(frozen=True)
class Encoder:
    """The nodes that encode rows, ready to run."""

    engine: Engine
    width: int  # columns of x

    def encode(self, raw: Arrays) -> np.ndarray:
        """Return x [rows, width] float32: each row's bits do not depend on the others."""
        rows = next(len(array) for array in raw if array is not None)
        if rows <= CHUNK_ROWS:
            return self.engine.run(raw)["x"]
        x = np.empty((rows, self.width), np.float32)
        for start in range(0, rows, CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            x[chunk] = self.engine.run(raw.take(chunk))["x"]
        return x


PARTS = {"calendar": Calendar, "scaling": Scaling, "piecewise": Piecewise, "periodic": Periodic, "onehot": OneHot}
