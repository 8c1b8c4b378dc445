"""1, 2, 4 and 8 processes write the same bundle, byte for byte; a lost process ends the others, and any number resumes."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

from batchproof.training.__main__ import main
from batchproof.training.distributed.group import LOST
from batchproof.training.fit.checkpoint import Checkpoint
from batchproof.training.fit.selection import defaults
from batchproof.training.fit.sharded import ShardedRun
from tests.training.distributed import ranks

NETWORK = ("--widths", "24,16", "--ensemble", "2", "--epochs", "3", "--quiet")
CLASSES = (*NETWORK, "--target", "y", "--arithmetic", "exact")
VALUES = (*NETWORK, "--target", "v", "--drop", "y", "--batch-rows", "50")
SMALL = ("--quick", "--widths", "12", "--epochs", "2", "--quiet")
GOALS = {  # what a fit minimises, and how much rows and classes count
    "quantiles": ("--target", "v", "--quantiles", "0.1,0.5,0.9", "--drop", "y"),
    "poisson": ("--target", "count", "--objective", "poisson", "--weight", "b2"),
    "gamma": ("--target", "b2", "--objective", "gamma", "--arithmetic", "exact"),
    "class weights": ("--target", "y", "--class-weight", "balanced", "--class-prior", "yes=0.2", "--threshold", "f1"),
}
MONOTONE = (*VALUES, "--increasing", "a", "--decreasing", "b", "--encoding", "bins")


def written(folder: Path, rows: int = 300) -> Path:
    """Write a table with missing values, categories, two classes, and a value, an amount and a count to predict."""
    drawn = np.random.default_rng(5)
    a, b = drawn.normal(size=(2, rows))
    kinds = drawn.choice([f"k{number}" for number in range(40)], rows)
    lines = ["a,b,kind,v,b2,count,y"]
    for row in range(rows):
        missing = "" if row % 9 == 4 else f"{a[row]:.4f}"
        value = a[row] * 2 + b[row] ** 2 + int(kinds[row][1:]) / 20
        others = f"{value:.4f},{b[row] ** 2 + 0.01:.4f},{abs(round(value))}"
        lines.append(f"{missing},{b[row]:.3f},{kinds[row]},{others},{'yes' if value > 1.5 else 'no'}")
    path = folder / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def train(table: str, models: str, words: tuple[str, ...], before: Callable[[], None] | None = None) -> int:
    """Run the command in one of several processes."""
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    if before is not None:
        before()
    return main([table, "--models", models, *words])


def trained(
    size: int, table: Path, models: Path, words: tuple[str, ...], before: Callable[[], None] | None = None
) -> dict[str, bytes]:
    """Return the files of the bundle that `size` processes write."""
    ended = ranks.run(size, train, str(table), str(models), words, before)
    assert [one.code for one in ended] == [0] * size, ended
    assert [one.said for one in ended[1:]] == [""] * (size - 1)  # only the first talks
    (bundle,) = (models / "t").iterdir()  # and the checkpoint is gone
    return {file.name: file.read_bytes() for file in bundle.iterdir()}


def tried_on_a_sample() -> None:
    """Let a small table be fitted as a large one is: the plans are tried on a sample, each by one process."""
    defaults.FULL_ROWS, defaults.SAMPLE_ROWS, defaults.TRIAL_STEPS = 50, 80, 6


@pytest.mark.parametrize(
    "words, before, sizes",
    [(CLASSES, None, (2, 8)), (VALUES, tried_on_a_sample, (4, 8)), (MONOTONE, None, (2,))],
    ids=["classes", "values", "monotone"],
)
def test_every_number_of_processes_writes_the_same_bundle(
    tmp_path: Path, words: tuple[str, ...], before: Callable[[], None] | None, sizes: tuple[int, ...]
) -> None:
    """Every file of the bundle has the same bytes: exact classes with plans fitted in full, float32 values with plans tried, constraints."""
    table = written(tmp_path)
    alone = trained(1, table, tmp_path / "1", words, before)
    assert len(alone) >= 5
    for size in sizes:
        assert trained(size, table, tmp_path / str(size), words, before) == alone, f"{size} processes"


@pytest.mark.parametrize("words", GOALS.values(), ids=GOALS)
def test_every_goal_keeps_the_promise(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Quantiles, deviances, weights, class weights, a prior and a threshold: one process and two write the same bytes."""
    table = written(tmp_path, 160)
    alone = trained(1, table, tmp_path / "1", (*SMALL, *words))
    assert trained(2, table, tmp_path / "2", (*SMALL, *words)) == alone


def in_a_thread(table: str, models: str) -> int:
    """Train as a worker of Ray does: not in the main thread, in a process group that was made before."""
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(
        "gloo", init_method=f"file://{os.environ.pop('BATCHPROOF_STORE')}", rank=rank, world_size=size
    )
    with ThreadPoolExecutor() as pool:
        code = pool.submit(main, [table, "--models", models, *CLASSES]).result()
    assert dist.is_initialized()  # it is not ours to end
    return code


def test_a_group_that_exists_is_used(tmp_path: Path) -> None:
    """Where a launcher has made the process group and calls from a thread, the bundle has the same bytes."""
    table = written(tmp_path)
    ended = ranks.run(2, in_a_thread, str(table), str(tmp_path / "m"))
    assert [one.code for one in ended] == [0, 0], ended
    files = {file.name: file.read_bytes() for file in (tmp_path / "m" / "t" / "1").iterdir()}
    assert files == trained(1, table, tmp_path / "1", CLASSES)


def killed_in_the_third_epoch(note: str) -> None:
    """Let process 2 be killed as if by the system, after two checkpoints; it writes the time to the file `note`."""
    keep_every_epoch()
    epoch = ShardedRun.epoch

    def dying(run: ShardedRun) -> object:
        if run.group.rank == 2 and len(run.history) == 2:
            Path(note).write_text(str(time.monotonic()))
            os.kill(os.getpid(), signal.SIGKILL)
        return epoch(run)

    ShardedRun.epoch = dying  # type: ignore[assignment, method-assign]


def keep_every_epoch() -> None:
    """Write a checkpoint after every epoch, however short it is."""
    init = Checkpoint.__init__
    Checkpoint.__init__ = lambda self, path, key: init(self, path, key, interval_s=-1.0)  # type: ignore[method-assign, misc]


def test_a_killed_process_ends_the_others_and_another_number_resumes(tmp_path: Path) -> None:
    """Within seconds the others end, with one sentence and no bundle; two processes finish what four began, to the same bytes."""
    words = (*CLASSES, "--encoding", "bins", "--epochs", "5")
    table = written(tmp_path)
    undisturbed = trained(1, table, tmp_path / "1", words)

    ended = ranks.run(
        4, train, str(table), str(tmp_path / "m"), words, partial(killed_in_the_third_epoch, str(tmp_path / "killed"))
    )
    assert time.monotonic() - float((tmp_path / "killed").read_text()) < 60
    assert [one.code for one in ended] == [1, 1, -signal.SIGKILL, 1]
    assert ended[0].said.splitlines()[-1] == f"batchproof-train: {LOST}"
    assert [one.said for one in ended[1:]] == [""] * 3
    assert [path.name for path in (tmp_path / "m" / "t").iterdir()] == [".checkpoint.safetensors"]

    assert trained(2, table, tmp_path / "m", (*words, "--resume")) == undisturbed


def refused(table: str, models: str, words: tuple[str, ...]) -> int:
    """Run the command with a table and flags that follow from the rank."""
    rank = os.environ["RANK"]
    return main([table.format(rank=rank), "--models", models, *(word.format(rank=rank) for word in words)])


@pytest.mark.parametrize(
    "name, words, sentence",
    [
        ("t{rank}.csv", (), "process 1 has another table than process 0: SHA-256 "),
        (
            "t0.csv",
            ("--seed", "{rank}"),
            "process 1 has another --seed than process 0: 1, not 0. All must have the same.",
        ),
        ("only{rank}.csv", (), "process 1 of 2: "),
        ("absent.csv", (), "absent.csv"),
        ("t0.csv", ("--batch-rows", "5"), "a batch of 5 rows cannot be cut into 8 shards"),
        ("t0.csv", ("--resume",), "there is no checkpoint"),
    ],
)
def test_what_differs_or_fails_in_one_process_ends_all(
    tmp_path: Path, name: str, words: tuple[str, ...], sentence: str
) -> None:
    """The first process says why, all end with a code for it, and nothing is written."""
    first = written(tmp_path).rename(tmp_path / "t0.csv")
    (tmp_path / "t1.csv").write_text(first.read_text() + "0.1,0.2,k1,3.0,0.1,3,yes\n")
    (tmp_path / "only0.csv").write_text(first.read_text())
    ended = ranks.run(2, refused, str(tmp_path / name), str(tmp_path / "models"), (*CLASSES, *words))
    assert ended[0].code == 2
    assert ended[1].code in (1, 2)
    assert sentence in ended[0].said.splitlines()[-1]
    assert ended[1].said == ""
    assert not (tmp_path / "models").exists()


def other_size(table: str) -> int:
    """Say in process 1 that the run has four processes."""
    if os.environ["RANK"] == "1":
        os.environ["WORLD_SIZE"] = "4"
    return main([table, "--target", "y"])


def test_sizes_that_disagree(tmp_path: Path) -> None:
    """Processes that were told different numbers of them end, instead of waiting for more to come."""
    ended = ranks.run(2, other_size, str(written(tmp_path)))
    assert [one.code for one in ended] == [2, 2]
    assert "process 1 is one of 4, process 0 one of 2: WORLD_SIZE must agree." in ended[0].said
