"""The outputs of any ONNX file as plain arrays: tensors, sequences of tensors, maps, and sequences of maps."""

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from batchproof.service.features.arrays import Outputs


def arrays_of(outputs: Mapping[str, Any], by_row: Collection[str] = ()) -> Outputs:
    """Return every part of every output as an array of numbers, by name.

    A sequence of maps, as exporters of scikit-learn write probabilities, is one array with a column for each key; a
    sequence named in `by_row`, with an entry for each row, is one array [rows, ...]. Other sequences and maps have one
    array for each of their parts: `name[0]`, `name['key']`. Raises ValueError where entries of rows differ in shape.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, output in outputs.items():
        if name in by_row:
            arrays[name] = np.stack([_plain(np.asarray(entry)) for entry in output])
        else:
            arrays.update(_parts(name, output))
    return arrays


def sequences_by_row(two: Mapping[str, Any], three: Mapping[str, Any]) -> frozenset[str]:
    """Return the outputs that are sequences of tensors with an entry for each row, seen with 2 rows and with 3."""
    return frozenset(
        name
        for name, output in two.items()
        if _is_tensors(output) and _is_tensors(three.get(name)) and (len(output), len(three[name])) == (2, 3)
    )


def _is_tensors(output: Any) -> bool:
    is_sequence = isinstance(output, Sequence) and not isinstance(output, str)
    return is_sequence and not any(isinstance(entry, Mapping) for entry in output)


def batch_axis(two: np.ndarray | None, three: np.ndarray | None) -> int | None:
    """Return the axis along which an output has an entry for each row, found from outputs of 2 and of 3 rows; None if there is none."""
    if two is None or three is None or two.ndim != three.ndim:
        return None
    pairs = list(zip(two.shape, three.shape, strict=True))
    if pairs[:1] == [(2, 3)]:
        return 0
    changing = [axis for axis, (before, after) in enumerate(pairs) if before != after]
    return changing[0] if len(changing) == 1 and pairs[changing[0]] == (2, 3) else None


def _parts(name: str, output: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(output, Mapping):
        for key, value in output.items():
            yield from _parts(f"{name}[{key!r}]", value)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        if output and all(isinstance(entry, Mapping) for entry in output):
            yield name, _table(output)
        else:
            for place, value in enumerate(output):
                yield from _parts(f"{name}[{place}]", value)
    elif output is not None:
        yield name, _plain(np.asarray(output))


def _table(maps: Sequence[Mapping[Any, Any]]) -> np.ndarray:
    """Return [rows, keys]; a key that a map does not have becomes a NaN with special bits."""
    keys = sorted({key for entry in maps for key in entry}, key=lambda key: (str(type(key)), key))
    return _plain(np.array([[entry.get(key, np.nan) for key in keys] for entry in maps]))


def _plain(array: np.ndarray) -> np.ndarray:
    """Return numbers as they are, and a checksum for each text."""
    if array.dtype.kind not in "OUS":
        return array
    checksums = [zlib.crc32(str(value).encode("utf-8", "surrogatepass")) for value in array.reshape(-1)]
    return np.array(checksums, dtype=np.uint32).reshape(array.shape)
