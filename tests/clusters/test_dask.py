"""Scoring on Dask, with processes."""

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
import pytest

import batchproof.dask
from batchproof import Scorer
from batchproof.service.errors import ServiceError
from tests.clusters.rows import MODEL, same_bits, table

ROWS = 50_000


@pytest.mark.parametrize("partitions", [1, 9])
def test_partitions_change_no_bit(partitions: int) -> None:
    """However Dask cuts the rows, each has the bits that a single process gives it, and the index stays."""
    frame = table(ROWS).to_pandas()
    frame.index = pd.RangeIndex(10, 10 + ROWS, name="number")
    scored = batchproof.dask.predict(dd.from_pandas(frame, npartitions=partitions), MODEL, extra="ignore")
    with dask.config.set(scheduler="processes", num_workers=2):
        answer = scored.compute()

    assert list(answer.index) == list(frame.index)
    assert answer.dtypes.to_dict() == scored.dtypes.to_dict()
    assert same_bits(pa.Table.from_pandas(answer, preserve_index=False), Scorer(MODEL, extra="ignore")(table(ROWS)))


def test_columns_that_do_not_fit_are_refused_before_anything_runs() -> None:
    """A missing column is refused when the job is made."""
    ddf = dd.from_pandas(table(100).to_pandas().drop(columns=["sex"]), npartitions=2)
    with pytest.raises(ServiceError, match="has no column 'sex'"):
        batchproof.dask.predict(ddf, MODEL, extra="ignore")


def test_another_kind_of_frame_is_refused() -> None:
    """A frame of pandas is refused by its type, with what makes it one of Dask."""
    with pytest.raises(
        TypeError, match=r"takes a dask\.dataframe\.DataFrame, not pandas.*dask\.dataframe\.from_pandas"
    ):
        batchproof.dask.predict(table(10).to_pandas(), MODEL)


def test_a_bad_row_is_named_where_the_job_began() -> None:
    """A process's refusal arrives as its sentence, with the row and the feature."""
    frame = table(100).to_pandas()
    frame.loc[70, "body_mass_g"] = float("inf")
    scored = batchproof.dask.predict(dd.from_pandas(frame, npartitions=2), MODEL, extra="ignore")
    with (
        dask.config.set(scheduler="processes", num_workers=2),
        pytest.raises(ServiceError, match="feature 'body_mass_g'"),
    ):
        scored.compute()
