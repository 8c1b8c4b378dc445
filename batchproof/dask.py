"""Dask: a DataFrame with predictions, one scorer for each worker process.

    import batchproof.dask

    scored = batchproof.dask.predict(dd.read_parquet("sales/"), "models/penguins")

Partitions and retries change no bit. The index stays as it is: it is not a feature.
"""

from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from batchproof.installation import imported
from batchproof.scorer import Scorer, Worker, wrong_kind

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd


def predict(
    ddf: "dd.DataFrame", path: "str | PathLike[str]", *, other_bits: Literal["fail", "report"] = "fail", **options: Any
) -> "dd.DataFrame":
    """Return `ddf` with the columns that the model adds; nothing runs until Dask needs the rows.

    The bundle at `path` is read here and travels with the job. Each worker checks it, verifies batch invariance, and
    compares its bits with this machine's: where a float32 model's differ the job fails, or with other_bits="report" the
    worker logs a warning. `options` are those of `batchproof.Scorer`: extra, answer, on_error, prefix, threads, ...
    Raises TypeError for another kind of frame, and ServiceError where the columns do not fit, before anything runs.
    """
    if not isinstance(ddf, imported("dask.dataframe", "batchproof.dask").DataFrame):
        way = "dask.dataframe.from_pandas(frame, npartitions=8)"
        raise wrong_kind("batchproof.dask.predict", "dask.dataframe.DataFrame", ddf, way)
    worker = Worker(Scorer(path, **options), other_bits)
    meta = _scored(ddf._meta, worker)  # noqa: SLF001 - Dask's own name for the empty frame of the right types
    return ddf.map_partitions(_scored, worker, meta=meta)


def _scored(frame: "pd.DataFrame", worker: Worker) -> "pd.DataFrame":
    """Return one partition with its predictions and its own index."""
    answer = worker(pa.Table.from_pandas(frame, preserve_index=False)).to_pandas()
    answer.index = frame.index
    if worker.scorer.options.answer == "append":
        for name in frame.columns:  # a column that came keeps the very type it came with
            answer[name] = frame[name]
    return answer
