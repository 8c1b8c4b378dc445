"""Scoring on Ray Data, with two actors."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

import batchproof.ray  # before ray: it switches usage statistics off
from batchproof import Scorer
from tests.clusters.rows import MODEL, ROOT, same_bits, table

ROWS = 100_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(
        num_cpus=4,  # logical: two actors, and room for the tasks that cut the rows
        include_dashboard=False,
        object_store_memory=200 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        _node_ip_address="127.0.0.1",
        logging_level="error",
    )
    yield
    ray.shutdown()


def collected(dataset: "ray.data.Dataset") -> pa.Table:
    return pa.concat_tables(
        [batch for batch in dataset.iter_batches(batch_format="pyarrow", batch_size=None) if len(batch)]
    )


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("blocks", "batch_rows"), [(1, 8192), (11, 777)])
def test_blocks_and_batches_change_no_bit(blocks: int, batch_rows: int) -> None:
    """However Ray cuts the rows, each has the bits that a single process gives it."""
    dataset = ray.data.from_arrow(table(ROWS)).repartition(blocks)
    scored = batchproof.ray.predict(dataset, MODEL, concurrency=2, batch_rows=batch_rows, extra="ignore")

    assert same_bits(collected(scored), Scorer(MODEL, extra="ignore")(table(ROWS)))


class DiesOnce:
    """Passes batches on; the first actor that gets one dies."""

    def __init__(self, marker: str) -> None:
        self._marker = marker

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the batch, or die."""
        try:
            os.close(os.open(self._marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return batch
        os.kill(os.getpid(), signal.SIGKILL)
        return batch


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_changes_no_bit(tmp_path: Path) -> None:
    """An actor that dies in the middle is replaced, its rows run again, and every bit is the same."""
    marker = str(tmp_path / "died")
    dataset = ray.data.from_arrow(table(ROWS)).repartition(8)
    passed = dataset.map_batches(
        DiesOnce, fn_constructor_args=(marker,), batch_format="pyarrow", concurrency=1, max_restarts=3
    )
    scored = batchproof.ray.predict(passed, MODEL, concurrency=1, extra="ignore")

    assert same_bits(collected(scored), Scorer(MODEL, extra="ignore")(table(ROWS)))
    assert Path(marker).exists()


def test_usage_statistics_are_off() -> None:
    """Importing the adapter keeps Ray from reporting usage."""
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_another_kind_of_dataset_is_refused() -> None:
    """An Arrow table is refused by its type, with what makes a dataset of a frame."""
    with pytest.raises(TypeError, match=r"takes a ray\.data\.Dataset, not pyarrow.*ray\.data\.from_arrow"):
        batchproof.ray.predict(table(10), MODEL)  # type: ignore[arg-type]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("wrong", [0, (3, 1), "2", (1, 2, 3), True])
def test_a_wrong_number_of_actors_is_refused(wrong: Any) -> None:
    """It is a whole number of 1 or more, or the least and the most."""
    with pytest.raises((TypeError, ValueError), match=r"^concurrency is"):
        batchproof.ray.predict(ray.data.from_arrow(table(10)), MODEL, concurrency=wrong)


@pytest.mark.usefixtures("cluster")
def test_the_advice_for_pandas_works() -> None:
    """A frame with NaN among its texts, as pandas reads a file, becomes a dataset by way of an Arrow table."""
    frame = table(300).to_pandas()
    frame["sex"] = frame["sex"].astype(object).where(frame["sex"].notna(), float("nan"))
    dataset = ray.data.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))
    scored = batchproof.ray.predict(dataset, MODEL, extra="ignore")

    assert same_bits(collected(scored), Scorer(MODEL, extra="ignore")(table(300)))
