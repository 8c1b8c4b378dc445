"""Compare rows by their bits: in a batch of one, at every position of batches of many sizes, and filling a whole batch."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.runner import Feeds, RequestRunner, rows_of
from batchproof.service.invariance.batch_plans import cut


@dataclass(frozen=True)
class Difference:
    """One row whose bits in a batch differ from its bits in a batch of one."""

    output: str
    batch_rows: int
    position: int  # of the row in the batch, from 0
    probe: int  # number of the row among the probes
    alone: str  # the row's bytes as hex, in this host's byte order
    batched: str


@dataclass
class BitCounts:
    """What was compared so far, by batch size, and what differed."""

    compared: Counter[int] = field(default_factory=Counter)  # batch rows -> rows compared
    changed: Counter[int] = field(default_factory=Counter)  # batch rows -> rows of other bits
    ulps: dict[str, float] = field(default_factory=dict)  # output -> largest difference in units of the last place
    first: Difference | None = None

    def add(self, other: "BitCounts") -> None:
        """Take in what another counts counted."""
        self.compared.update(other.compared)
        self.changed.update(other.changed)
        for output, ulps in other.ulps.items():
            self.ulps[output] = max(ulps, self.ulps.get(output, 0.0))
        self.first = self.first or other.first


def alone(runner: RequestRunner, probes: Feeds, rows: Iterable[np.ndarray] | None = None) -> Outputs:
    """Run each probe row as a request of its own, with no companion; returns the outputs joined, [rows, ...] each.

    `rows`: which rows, each an array of one row number; None: all rows. Without rows the result is empty.
    """
    chosen = rows if rows is not None else (np.array([row]) for row in range(rows_of(probes)))
    each = [runner.run([take(probes, row)])[0] for row in chosen]
    return {name: np.concatenate([outputs[name] for outputs in each]) for name in each[0]} if each else {}


def compare(runner: RequestRunner, probes: Feeds, lone: Outputs, batches: Iterable[np.ndarray]) -> BitCounts:
    """Run `batches` of probe rows, each an array of row numbers, and compare every row with its `lone` bits."""
    counts = BitCounts()
    for chosen in batches:
        outputs = runner.run([take(probes, piece) for piece in cut(chosen)])
        joined = _joined(outputs, lone)
        wanted = {name: array[chosen] for name, array in lone.items()}
        counts.compared[len(chosen)] += len(chosen)
        if not all(_is_same(joined[name], wanted[name]) for name in lone):
            counts.add(_differences(joined, wanted, chosen))
    return counts


def compare_row(batched: Outputs, lone: Outputs, batch_rows: int, position: int) -> Difference | None:
    """Compare one row's outputs, [1, ...] each, from `position` of a batch of `batch_rows` with its lone ones."""
    for name, wanted in lone.items():
        if (row_bytes(wanted) != row_bytes(batched[name])).any():
            return Difference(name, batch_rows, position, position, _hex(wanted), _hex(batched[name]))
    return None


def take(probes: Feeds, chosen: np.ndarray) -> list[np.ndarray | None]:
    """Return the chosen rows of every input."""
    return [None if array is None else array[chosen] for array in probes]


def row_bytes(array: np.ndarray) -> np.ndarray:
    """Return an array's bytes, [rows, bytes] uint8: NaNs are equal when their bits are, zeros only of the same sign."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)


def ulps_between(left: np.ndarray, right: np.ndarray) -> float:
    """Return the largest distance of two arrays: in units of the last place for floats, in ones for other numbers."""
    if not np.issubdtype(left.dtype, np.floating):
        return float(np.max(np.abs(left.astype(np.float64) - right.astype(np.float64)), initial=0.0))
    return float(np.max(np.abs(_ordered(left) - _ordered(right)), initial=0.0))


def _hex(array: np.ndarray) -> str:
    return array.tobytes().hex()


def _ordered(array: np.ndarray) -> np.ndarray:
    """Return each float's number in the order of all floats: neighbours differ by one."""
    bits = np.ascontiguousarray(array).view(f"i{array.dtype.itemsize}").astype(np.longdouble)
    least = -(np.longdouble(2) ** (8 * array.dtype.itemsize - 1))
    return np.where(bits < 0, least - bits, bits)


def _joined(outputs: Sequence[Outputs], names: Iterable[str]) -> Outputs:
    if len(outputs) == 1:
        return outputs[0]
    return {name: np.concatenate([piece[name] for piece in outputs]) for name in names}


def _is_same(batched: np.ndarray, wanted: np.ndarray) -> bool:
    """Return whether all bytes are equal; one comparison of memory, since nearly always they are."""
    return batched.dtype == wanted.dtype and batched.shape == wanted.shape and batched.tobytes() == wanted.tobytes()


def _differences(batched: Outputs, lone: Outputs, chosen: np.ndarray) -> BitCounts:
    """Count the rows of one batch whose bytes are not those in `lone`, row by row."""
    counts = BitCounts()
    changed = np.zeros(len(chosen), dtype=bool)
    for name, wanted in lone.items():
        array = batched[name]
        if is_alike := (array.dtype, array.shape) == (wanted.dtype, wanted.shape):
            differs = np.any(row_bytes(array) != row_bytes(wanted), axis=1)
        else:
            differs = np.ones(len(chosen), dtype=bool)
        if not differs.any():
            continue
        changed |= differs
        counts.ulps[name] = (
            ulps_between(array[differs], wanted[differs]) if is_alike else float(np.finfo(np.float64).max)
        )
        if counts.first is None:
            position = int(np.argmax(differs))
            seen = _hex(array[position : position + 1])  # nothing where the engine gave too few rows
            counts.first = Difference(name, len(chosen), position, int(chosen[position]), _hex(wanted[position]), seen)
    if changed.any():
        counts.changed[len(chosen)] = int(changed.sum())
    return counts
