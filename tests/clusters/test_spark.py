"""Scoring on Spark, in local mode with two Python workers."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.errors import PythonException
from pyspark.sql import SparkSession

import batchproof.spark
from batchproof import Scorer
from batchproof.service.errors import ServiceError
from tests.clusters.rows import MODEL, ROOT, same_bits, table

ROWS = 100_000


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = str(ROOT)
    session = (
        SparkSession.builder.master("local[2, 3]")  # two workers; a failed task is tried three times
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.memory", "2g")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(table(ROWS), path, row_group_size=9_999)
    return path


@pytest.mark.parametrize(("partitions", "batch_rows"), [(1, 10_000), (7, 333)])
def test_partitions_and_batches_change_no_bit(
    spark: SparkSession, parquet: Path, partitions: int, batch_rows: int
) -> None:
    """However Spark cuts the rows, each has the bits that a single process gives it."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(batch_rows))
    df = spark.read.parquet(str(parquet)).repartition(partitions)
    scored = batchproof.spark.predict(df, MODEL, extra="ignore").toArrow()

    assert same_bits(scored, Scorer(MODEL, extra="ignore")(table(ROWS)))


def test_a_retried_task_changes_no_bit(spark: SparkSession, parquet: Path, tmp_path: Path) -> None:
    """A Python worker that dies in the middle of its rows is replaced, its task tried again, and every bit is the same."""
    marker = str(tmp_path / "died")

    def die_once(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                yield batch
            else:
                os._exit(9)

    df = spark.read.parquet(str(parquet)).repartition(4)
    scored = batchproof.spark.predict(df.mapInArrow(die_once, df.schema), MODEL, extra="ignore").toArrow()

    assert Path(marker).exists()
    assert same_bits(scored, Scorer(MODEL, extra="ignore")(table(ROWS)))


def test_columns_that_do_not_fit_are_refused_before_anything_runs(spark: SparkSession, parquet: Path) -> None:
    """A missing or extra column is refused when the job is made."""
    df = spark.read.parquet(str(parquet))
    with pytest.raises(ServiceError, match="has no column 'sex'"):
        batchproof.spark.predict(df.drop("sex"), MODEL, extra="ignore")
    with pytest.raises(ServiceError, match="has no feature 'id'"):
        batchproof.spark.predict(df, MODEL)


def test_the_bundle_need_not_be_on_the_workers(spark: SparkSession, parquet: Path, tmp_path: Path) -> None:
    """The job takes the bundle along: its folder may be gone when the rows run."""
    folder = Path(shutil.copytree(MODEL, tmp_path / "penguins" / "1"))
    scored = batchproof.spark.predict(
        spark.read.parquet(str(parquet)).limit(1000), folder, extra="ignore", answer="alone"
    )
    shutil.rmtree(folder)

    assert scored.count() == 1000
    assert scored.columns == ["prediction", "probability_Adelie", "probability_Chinstrap", "probability_Gentoo"]


def test_a_bad_row_fails_the_job_by_name(spark: SparkSession, parquet: Path) -> None:
    """A row that the model refuses fails the job with the feature and what is wrong."""
    df = (
        spark.read.parquet(str(parquet))
        .selectExpr("*", "NULL AS broken")
        .drop("island")
        .withColumnRenamed("broken", "island")
    )
    with pytest.raises(PythonException, match="feature 'island'"):
        batchproof.spark.predict(df, MODEL, extra="ignore").toArrow()


def test_another_kind_of_frame_is_refused() -> None:
    """A frame of pandas is refused by its type, with what makes it one of Spark."""
    with pytest.raises(TypeError, match=r"takes a pyspark\.sql\.DataFrame, not pandas.*spark\.createDataFrame"):
        batchproof.spark.predict(table(10).to_pandas(), MODEL)


def test_a_column_of_instants_passes(spark: SparkSession, parquet: Path) -> None:
    """A timestamp, which has the time zone of the session, stays beside the predictions as it is."""
    df = spark.read.parquet(str(parquet)).limit(100).selectExpr("*", "timestamp '2026-01-02 03:04:05' AS seen")
    scored = batchproof.spark.predict(df, MODEL, extra="ignore")

    assert scored.schema["seen"] == df.schema["seen"]
    assert [row.seen for row in scored.collect()] == [row.seen for row in df.collect()]
