"""The memory and the time of `batchproof-train` on a large table: encoded in memory, in memory, and through scratch files.

    python -m bench.large_training [--rows 500000] [--columns 50] [--rounds 1] [--limit 2GB]

A Parquet table of numbers, nine in ten, and categories is written to a temporary folder (TMPDIR), and trained on in turn with
three settings of --memory: one that has room for the encoded rows too, one that has just room for the table, so that rows are
encoded again in every epoch, and one that has none. `own MB` is the peak of the memory that the process alone has (its
anonymous pages, looked at fifty times a second): pages of scratch files are the system's to take back. `times` is that less
the 400 MB that a run on a table of a hundred rows takes, by the size of the table in Arrow's form. `cpu s` are processor
seconds, which other work on the machine hardly changes. All bundles must have the same model.onnx, or the command fails.

With --limit, every run is in a control group (version 1 or 2) of so much memory, page cache and scratch pages among it: a run
that needs more is ended by the system. That needs the right to make such a group, as root has it.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from batchproof.service.runtime.memory import size_bytes
from batchproof.training.data.tables.size import OWN_BYTES, TIMES, arrow_bytes

PART_ROWS = 250_000  # that are drawn and written together
LEAST_MB = 400.0  # of a run on a hundred rows
GROUPS = {  # of control groups, by version: where they are, and the file that limits one
    Path("/sys/fs/cgroup"): "memory.max",
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
}
FIT = [
    "--target",
    "late",
    "--epochs",
    "1",
    "--encoding",
    "quantile",
    "--widths",
    "64",
    "--ensemble",
    "1",
    "--threads",
    "1",
]


class Run(NamedTuple):
    """What one run took."""

    code: int
    own_mb: float
    cpu_s: float
    model: str  # SHA-256


def main() -> int:
    """Write the table, train all ways in turn, and print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=size_bytes, help="memory of the control group of each run, such as 2GB")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, limited(chosen.limit) as group:
        table = Path(folder, "large.parquet")
        write(table, chosen.rows, chosen.columns)
        size_mb = arrow_bytes(table) / 1e6
        print(f"{chosen.rows} rows, {chosen.columns} columns, {size_mb:.0f} MB in Arrow's form")
        just = OWN_BYTES + TIMES * arrow_bytes(table)
        ways = {"encoded": "1TB", "in memory": f"{just}B", "scratch files": "1MB"}  # of --memory
        models = set()
        for number in range(chosen.rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                run = measured(table, Path(folder, f"{way}-{number}"), ways[way], group)
                times = max(0.0, run.own_mb - LEAST_MB) / size_mb
                outcome = "" if run.code == 0 else f"  ended with {run.code}"
                print(f"{way:<14}{run.own_mb:8.0f} own MB{times:6.1f} times{run.cpu_s:9.1f} cpu s{outcome}", flush=True)
                models |= {run.model} if run.code == 0 else set()
    print("the same model.onnx" if len(models) == 1 else "no model.onnx, or several")
    return 0 if len(models) == 1 else 1


def write(path: Path, rows: int, columns: int) -> None:
    """Write a table whose target depends on four of its numbers; one number in ten columns has missing values."""
    drawn, writer = np.random.default_rng(0), None
    for start in range(0, rows, PART_ROWS):
        count = min(PART_ROWS, rows - start)
        numbers = [drawn.normal(size=count) for _ in range(columns - columns // 10)]
        score = numbers[0] + np.abs(numbers[1]) + numbers[2] * numbers[3] + drawn.normal(size=count)
        for values in numbers[::10]:
            values[drawn.random(count) < 0.05] = np.nan
        part = {f"n{place}": values for place, values in enumerate(numbers)}
        for place in range(columns // 10):
            part[f"c{place}"] = np.char.add("k", drawn.integers(0, 5 + 20 * place, count).astype(str))
        batch = pa.table(part | {"late": np.where(score > 1, "yes", "no")})
        writer = writer or parquet.ParquetWriter(path, batch.schema)
        writer.write_table(batch)
    if writer is not None:
        writer.close()


def measured(table: Path, models: Path, memory: str, group: Path | None) -> Run:
    """Train in a process of its own, in a control group where there is one."""
    command = [
        sys.executable,
        "-m",
        "batchproof.training",
        str(table),
        *FIT,
        "--models",
        str(models),
        "--memory",
        memory,
    ]
    if group is not None:
        command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *command]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, own_mb(process.pid))
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
    written = models / "large" / "1" / "model.onnx"
    model = sha256(written.read_bytes()).hexdigest() if written.exists() else ""
    return Run(process.returncode, peak, usage.ru_utime + usage.ru_stime, model)


def own_mb(pid: int) -> float:
    """Return the anonymous memory of a process; 0 where it has ended."""
    try:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    except OSError:
        return 0.0
    return float(found[1]) * 1024 / 1e6 if found else 0.0


@contextmanager
def limited(limit: int | None) -> Iterator[Path | None]:
    """Yield a control group whose processes together may have so much memory; None without a limit."""
    if limit is None:
        yield None
        return
    parent = next((folder for folder, name in GROUPS.items() if (folder / name).exists() or _has(folder)), None)
    if parent is None:
        raise SystemExit("there is no control group for memory on this system: leave --limit out.")
    group = parent / f"batchproof-{os.getpid()}"
    try:
        group.mkdir()
        (group / GROUPS[parent]).write_text(str(limit), encoding="ascii")
    except OSError as error:
        raise SystemExit(f"a control group cannot be made ({error}): run as root, or leave --limit out.") from error
    try:
        yield group
    finally:
        group.rmdir()


def _has(folder: Path) -> bool:
    """Return whether a folder of control groups, version 2, hands memory on to groups below it."""
    handed_on = folder / "cgroup.subtree_control"
    return handed_on.exists() and "memory" in handed_on.read_text(encoding="ascii").split()


if __name__ == "__main__":
    raise SystemExit(main())
