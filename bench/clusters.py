"""The same rows scored by Spark, Ray, Dask and `batchproof predict`: seconds, rows a second, peak memory, and bits.

    make .venv-clusters/ready
    PYTHONPATH=. .venv-clusters/bin/python -m bench.clusters [--rows 3000000] [--workers 2] [--engines predict ray dask spark]

Rows of penguins in eight Parquet files are read, scored by the committed model and written as Parquet again. Each engine is
a command of its own, so its seconds hold its start, too; "scoring" leaves that out where the engine can say so. Memory is the
greatest sum over all of its processes (PSS), looked at ten times a second. Bits are compared row by row with the first engine's.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bench.server import MARK, members, usage

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "penguins" / "1"
FILES = 8
LOOK_S = 0.1
ISLANDS = np.array(["Biscoe", "Dream", "Torgersen"])


class Cost(NamedTuple):
    """What one engine took."""

    whole_s: float
    scoring_s: float
    peak_mb: float


def main() -> None:
    """Measure every engine, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--be", nargs=3, metavar=("ENGINE", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.be:
        engine, source, target = chosen.be
        begun = time.perf_counter()
        ENGINES[engine](Path(source), Path(target), chosen.workers, begun)
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        source = Path(folder, "rows")
        write_rows(source, chosen.rows)
        wanted = ""
        for engine in chosen.engines:
            target = Path(folder, engine)
            cost = measured(engine, source, target, chosen.workers)
            found = digest(target)
            wanted = wanted or found
            print(
                f"{engine:<8} {cost.whole_s:6.1f} s in all, scoring {cost.scoring_s:6.1f} s, {chosen.rows / cost.scoring_s:10,.0f} "
                f"rows/s, peak {cost.peak_mb:6,.0f} MB, bits {'equal' if found == wanted else 'DIFFER'}",
                flush=True,
            )


def write_rows(folder: Path, rows: int) -> None:
    """Write rows with missing and unseen values in FILES files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, ids in enumerate(np.array_split(np.arange(rows), FILES)):
        count = len(ids)
        missing = random.random((5, count)) < 0.05
        numbers = [random.uniform(low, high, count) for low, high in ((32, 54), (13, 21), (172, 231), (2700, 6300))]
        columns = {
            "id": pa.array(ids),
            "island": pa.array(ISLANDS[random.integers(0, 3, count)]),
            **{
                name: pa.array(values, mask=gone)
                for name, values, gone in zip(
                    ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"),
                    numbers,
                    missing,
                    strict=False,
                )
            },
            "sex": pa.array(np.array(["female", "male"])[random.integers(0, 2, count)], mask=missing[4]),
        }
        parquet.write_table(pa.table(columns), folder / f"part-{number}.parquet")


def measured(engine: str, source: Path, target: Path, workers: int) -> Cost:
    """Run one engine as a command and watch its processes; ends with 1 where it fails."""
    mark = uuid.uuid4().hex
    environment = {
        **os.environ,
        MARK: mark,
        "PYTHONPATH": str(ROOT),
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "bench.clusters",
        "--workers",
        str(workers),
        "--be",
        engine,
        str(source),
        str(target),
    ]
    begun, peak_mb = time.perf_counter(), 0.0
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    while process.poll() is None:
        peak_mb = max(peak_mb, usage(members(mark)).pss_mb)
        time.sleep(LOOK_S)
    whole_s = time.perf_counter() - begun
    printed = process.stdout.read() if process.stdout else ""
    scoring = [line.split()[1] for line in printed.splitlines() if line.startswith("SCORING ")]
    if process.returncode or not scoring:
        sys.exit(f"{engine} ended with {process.returncode}")
    return Cost(whole_s, float(scoring[0]), peak_mb)


def digest(folder: Path) -> str:
    """Return a digest of every row's id and probabilities, in the order of the ids."""
    table = parquet.read_table(folder).sort_by("id")
    names = sorted(name for name in table.column_names if name.startswith("probability_"))
    found = hashlib.sha256()
    for name in ("id", *names):
        found.update(np.ascontiguousarray(table[name].to_numpy()).tobytes())
    return found.hexdigest()


def by_predict(source: Path, target: Path, workers: int, begun: float) -> None:
    """Score by the command."""
    target.mkdir()
    command = [
        sys.executable,
        "-m",
        "batchproof.service",
        "predict",
        str(MODEL),
        str(source),
        str(target / "all.parquet"),
    ]
    subprocess.run([*command, "--extra", "ignore", "--workers", str(workers)], check=True)
    told(begun)


def by_ray(source: Path, target: Path, workers: int, _: float) -> None:
    """Score by Ray Data."""
    import ray

    import batchproof.ray

    ray.init(
        num_cpus=workers + 2,
        include_dashboard=False,
        object_store_memory=512 << 20,
        _node_ip_address="127.0.0.1",
        logging_level="error",
    )
    begun = time.perf_counter()
    rows = ray.data.read_parquet(str(source))
    batchproof.ray.predict(rows, MODEL, concurrency=workers, extra="ignore").write_parquet(str(target))
    told(begun)


def by_dask(source: Path, target: Path, workers: int, _: float) -> None:
    """Score by Dask, in processes."""
    import dask
    import dask.dataframe

    import batchproof.dask

    with dask.config.set(scheduler="processes", num_workers=workers):
        begun = time.perf_counter()
        rows = dask.dataframe.read_parquet(str(source))
        batchproof.dask.predict(rows, MODEL, extra="ignore").to_parquet(str(target))
        told(begun)


def by_spark(source: Path, target: Path, workers: int, _: float) -> None:
    """Score by Spark in local mode."""
    from pyspark.sql import SparkSession

    import batchproof.spark

    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{workers}]").config("spark.ui.enabled", "false")
    spark = (
        builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
    )
    begun = time.perf_counter()
    batchproof.spark.predict(spark.read.parquet(str(source)), MODEL, extra="ignore").write.parquet(str(target))
    told(begun)


def told(begun: float) -> None:
    """Tell the process that measures how long the scoring took."""
    print(f"SCORING {time.perf_counter() - begun}", flush=True)


ENGINES: dict[str, Callable[[Path, Path, int, float], None]] = {
    "predict": by_predict,
    "ray": by_ray,
    "dask": by_dask,
    "spark": by_spark,
}


if __name__ == "__main__":
    main()
