"""Training that Ray or Spark starts: their processes write the bundle that one process writes, byte for byte."""

import os
from pathlib import Path

import pytest
import ray
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from tests.clusters.rows import ROOT

STAMP = "1700000000"  # SOURCE_DATE_EPOCH: without it, bundle.json has the time of its writing
WORDS = ("--target", "species", "--widths", "16", "--ensemble", "1", "--epochs", "2", "--encoding", "plain", "--quiet")


def command(models: Path) -> list[str]:
    """Return the words of the training command."""
    return [str(ROOT / "examples" / "penguins.csv"), *WORDS, "--models", str(models)]


def train(words: list[str]) -> None:
    """Train in one process of a group that the launcher has made, or whose variables it has set."""
    os.environ["SOURCE_DATE_EPOCH"] = STAMP
    from batchproof.training.__main__ import main

    if code := main(words):
        raise RuntimeError(f"training ended with {code}")


def files(models: Path) -> dict[str, bytes]:
    """Return the files of the bundle."""
    return {file.name: file.read_bytes() for file in (models / "penguins" / "1").iterdir()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the bundle that `--processes 2` writes, as every number of processes does."""
    models = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", STAMP)
        patch.setenv("PYTHONPATH", str(ROOT))
        train([*command(models), "--processes", "2"])
    return files(models)


def test_ray_train_writes_the_same_bundle(tmp_path: Path, alone: dict[str, bytes]) -> None:
    """Two workers of TorchTrainer write the bundle of `--processes`."""
    ray.init(
        num_cpus=4,  # logical
        include_dashboard=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"}},
        _node_ip_address="127.0.0.1",
        logging_level="error",
    )
    try:
        storage = RunConfig(storage_path=str(tmp_path / "ray"))
        TorchTrainer(
            lambda words: train(words["words"]),
            train_loop_config={"words": command(tmp_path)},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=storage,
        ).fit()
    finally:
        ray.shutdown()
    assert files(tmp_path) == alone


def test_sparks_distributor_writes_the_same_bundle(tmp_path: Path, alone: dict[str, bytes]) -> None:
    """Two processes of TorchDistributor write the bundle of `--processes`."""
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        TorchDistributor(num_processes=2, local_mode=True, use_gpu=False).run(train, command(tmp_path))
    finally:
        spark.stop()
    assert files(tmp_path) == alone
