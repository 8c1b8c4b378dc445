"""Write violations of batch invariance to record files, and run such records again."""

import json
import os
import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from batchproof.service.inference.runner import Feeds, RequestRunner, rows_of
from batchproof.service.invariance.bitwise import Difference, compare_row, take

FORMAT = "batchproof-violation"


MAX_RECORDS = 20  # of one process: a model that violates at every look must not fill the disk


@dataclass(frozen=True)
class Violation:
    """A row whose bits in a batch differed from its bits on its own, with everything needed to reproduce it."""

    difference: Difference  # `probe` is the row's number in the joined batch
    request_rows: tuple[int, ...]  # rows of each request that was joined into the batch
    requests: tuple[Feeds, ...]
    when: str  # ISO 8601, UTC

    @property
    def sentence(self) -> str:
        """Say what happened without a value of any row."""
        seen = self.difference
        return (
            f"output {seen.output!r} of the row at position {seen.position} of a batch of {seen.batch_rows} rows "
            f"(requests of {', '.join(map(str, self.request_rows))} rows) is not what the row gets alone"
        )

    def record(self, made_by: Mapping[str, Any]) -> dict[str, Any]:
        """Return it for JSON; `made_by` says which model and engine. Holds the rows themselves: see `write`."""
        return {
            "format": FORMAT,
            "when": self.when,
            "made_by": dict(made_by),
            "sentence": self.sentence,
            "output": self.difference.output,
            "position": self.difference.position,
            "batch_rows": self.difference.batch_rows,
            "alone": self.difference.alone,
            "batched": self.difference.batched,
            "requests": [[_plain(array) for array in feeds] for feeds in self.requests],
        }


class Records:
    """The folder of the records."""

    def __init__(self, folder: Path | None = None) -> None:
        """Keep them in `folder`, by default a folder of this user under the temporary one; made when first needed."""
        self._folder = folder  # looked for when it is needed: a service that can write nowhere serves all the same
        self._written = 0

    def write(self, violation: Violation, made_by: Mapping[str, Any]) -> Path | None:
        """Write the record, readable by this user alone; None after MAX_RECORDS. Raises OSError."""
        if self._written >= MAX_RECORDS:
            return None
        if self._folder is None:
            self._folder = Path(tempfile.gettempdir()) / f"batchproof-violations-{_user()}"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = violation.when.replace(":", "").replace("+0000", "Z")
        path = self._folder / f"{stamp}-{os.getpid()}-{self._written}.json"
        # O_EXCL: never through an existing link.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(violation.record(made_by), file, indent=1)
        self._written += 1
        return path


def _user() -> str:
    """Return what tells users of this machine apart; Windows has no numbers, and a temporary folder for each user."""
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def replay(runner: RequestRunner, record: Mapping[str, Any]) -> Difference | None:
    """Run a recorded batch again, and its row on its own; returns the difference. Raises ValueError, EngineError."""
    requests = requests_of(record)
    sizes = [rows_of(feeds) for feeds in requests]
    position = record.get("position")
    if not isinstance(position, int) or not 0 <= position < sum(sizes):
        raise ValueError("the record's position is not that of a row of its batch")
    request, row = place_of(sizes, position)
    outputs = runner.run(requests)[request]
    (alone,) = runner.run([take(requests[request], np.array([row]))])
    return compare_row({name: array[row : row + 1] for name, array in outputs.items()}, alone, sum(sizes), position)


def read_record(path: Path) -> dict[str, Any]:
    """Return the record in the file; raises ValueError where it holds something else, OSError."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a record of a violation: it is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'{path} is not a record of a violation: its field format is not "{FORMAT}"')
    return content


def requests_of(record: Mapping[str, Any]) -> list[list[np.ndarray | None]]:
    """Return the requests of a record as arrays again; raises ValueError where it is not a record."""
    if record.get("format") != FORMAT:
        raise ValueError(f'it is not a record of a violation: its field format is not "{FORMAT}"')
    try:
        return [[_array(plain) for plain in feeds] for feeds in record["requests"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the record's requests cannot be read: {error!r}") from error


def place_of(sizes: Sequence[int], position: int) -> tuple[int, int]:
    """Return (request, row in it) of a position in the joined batch."""
    starts = list(accumulate(sizes, initial=0))
    request = bisect_right(starts, position) - 1  # of requests without rows, the last one: it has the row
    return request, position - starts[request]


def _plain(array: np.ndarray | None) -> dict[str, Any] | None:
    if array is None:
        return None
    little = array.astype(array.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.name, "shape": list(array.shape), "hex": little.tobytes().hex()}


def _array(plain: Mapping[str, Any] | None) -> np.ndarray | None:
    if plain is None:
        return None
    dtype = np.dtype(plain["dtype"])
    stored = np.frombuffer(bytes.fromhex(plain["hex"]), dtype.newbyteorder("<"))
    return stored.reshape(plain["shape"]).astype(dtype)
