"""Ray Data: a dataset with predictions, from a pool of actors that each hold one scorer.

    import batchproof.ray

    scored = batchproof.ray.predict(ray.data.read_parquet("sales/"), "models/penguins", concurrency=4)

Blocks, retries and batch sizes change no bit. Ray's usage statistics are switched off unless RAY_USAGE_STATS_ENABLED is
set: import this module before ray starts.
"""

import os
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage by default; this counts before it starts

from batchproof.scorer import BLOCK_ROWS, Scorer, Worker

if TYPE_CHECKING:
    import ray.data


class _Actor:
    """What each actor holds."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __call__(self, table: pa.Table) -> pa.Table:
        return self._worker(table)


def predict(
    ds: "ray.data.Dataset",
    path: "str | PathLike[str]",
    *,
    concurrency: int | tuple[int, int] = 1,
    batch_rows: int = BLOCK_ROWS,
    other_bits: Literal["fail", "report"] = "fail",
    **options: Any,
) -> "ray.data.Dataset":
    """Return `ds` with the columns that the model adds; nothing runs until Ray needs the rows.

    `concurrency`: how many actors score, or the least and the most. The bundle at `path` is read here and travels with the
    job. Each actor checks it, verifies batch invariance, and compares its bits with this machine's: where a float32
    model's differ the job fails, or with other_bits="report" the actor logs a warning. `options` are those of
    `batchproof.Scorer`: extra, answer, on_error, prefix, threads, ...
    """
    worker = Worker(Scorer(path, **options), other_bits)
    return ds.map_batches(
        _Actor,
        fn_constructor_args=(worker,),
        batch_format="pyarrow",
        batch_size=batch_rows,
        concurrency=concurrency,
        zero_copy_batch=True,
    )
