"""Spark: a DataFrame with predictions, one scorer for each Python worker.

    import batchproof.spark

    scored = batchproof.spark.predict(df, "models/penguins", extra="ignore")

Partitions, retries and the size of Arrow batches (spark.sql.execution.arrow.maxRecordsPerBatch) change no bit.
"""

from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from batchproof.installation import imported
from batchproof.scorer import Scorer, Worker, wrong_kind

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def predict(
    df: "DataFrame", path: "str | PathLike[str]", *, other_bits: Literal["fail", "report"] = "fail", **options: Any
) -> "DataFrame":
    """Return `df` with the columns that the model adds; nothing runs until Spark needs the rows.

    The bundle at `path` is read here and travels with the job. Each Python worker checks it, verifies batch invariance,
    and compares its bits with this machine's: where a float32 model's differ the job fails, or with other_bits="report"
    the worker logs a warning. `options` are those of `batchproof.Scorer`: extra, answer, on_error, prefix, threads, ...
    Raises TypeError for another kind of frame, and ServiceError where the columns do not fit, before anything runs.
    """
    if not isinstance(df, imported("pyspark.sql", "batchproof.spark").DataFrame):
        raise wrong_kind("batchproof.spark.predict", "pyspark.sql.DataFrame", df, "spark.createDataFrame(frame)")
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    scorer = Scorer(path, **options)
    zone = df.sparkSession.conf.get("spark.sql.session.timeZone")
    schema = scorer.schema(to_arrow_schema(df.schema, timezone=zone))
    worker = Worker(scorer, other_bits)

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield worker(batch)

    return df.mapInArrow(score, from_arrow_schema(schema))
