"""The sharded loop: which rows and masks a process gets, and when it stops."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from batchproof.training.distributed.group import Group
from batchproof.training.distributed.group_error import GroupError
from batchproof.training.distributed.joint import Joint
from batchproof.training.distributed.threads import on_threads
from batchproof.training.fit.loop import FitSettings, fit
from batchproof.training.fit.sharded import ShardedRun
from batchproof.training.network.network import Network, NetworkSettings
from batchproof.training.network.objective import Objective
from batchproof.training.network.tensors import Rows
from batchproof.training.settings import SettingError
from tests.training.fit.test_loop import BINARY, made_network, made_rows

SETTINGS = FitSettings(epochs=3, batch_rows=16, patience=4, seed=3)


def made_run(rank: int = 0, size: int = 1, rows: int = 53) -> ShardedRun:
    return ShardedRun(
        made_network(members=2), BINARY, made_rows(rows), made_rows(20, 1), SETTINGS, group=Group(rank, size)
    )


@pytest.mark.parametrize("size", [2, 4, 8])
def test_every_row_of_a_batch_is_in_one_shard(size: int) -> None:
    """The processes' parts of each batch make up the batch that one process alone has: shards side by side."""
    order = torch.randperm(53, generator=torch.Generator().manual_seed(0))
    alone = made_run().cut(order)
    parts = [made_run(rank, size).cut(order) for rank in range(size)]
    for number, batch in enumerate(alone):
        assert torch.equal(torch.cat([part[number].view(-1, 8 // size) for part in parts], dim=1).flatten(), batch)
    rows = torch.cat(list(alone)).tolist()
    assert len(rows) == len(set(rows)) == 48  # of 53: shards have equally many rows


def test_generators_follow_from_the_step_and_the_shard() -> None:
    """The masks of a shard at a step are the same in every process that may have it, and differ between steps."""
    alone, second = made_run(), made_run(1, 2)
    seeds = {(step, shard): g.initial_seed() for step in (0, 9) for shard, g in enumerate(alone.generators(step))}
    assert [g.initial_seed() for g in second.generators(9)] == [seeds[9, shard] for shard in range(4, 8)]
    assert len(set(seeds.values())) == 16


def test_a_fit_learns_as_the_ordinary_one() -> None:
    """Shards change rounding, masks and a few rows, not what is learned: the validation losses are close."""
    plan = FitSettings(epochs=30, batch_rows=32, patience=30, seed=3)
    rows = made_rows(400), made_rows(200, 1)
    plain = fit(made_network(), BINARY, *rows, plan)
    sharded = fit(made_network(), BINARY, *rows, plan, start=partial(ShardedRun, group=Group(0, 1)))
    assert sharded.best.validation_loss == pytest.approx(plain.best.validation_loss, abs=0.03)


def test_a_resumed_fit_ends_in_the_same_bits() -> None:
    """A sharded fit goes on from a checkpoint as if nothing had happened."""
    states: list[dict[str, torch.Tensor]] = []
    start = partial(ShardedRun, group=Group(0, 1))
    run = made_run()
    for _ in range(3):
        run.epoch()
        states.append(run.state())
    resumed = fit(
        made_network(members=2), BINARY, made_rows(53), made_rows(20, 1), SETTINGS, resume=states[0], start=start
    )
    assert [e.validation_loss for e in resumed.history] == [e.validation_loss for e in run.history]


class Threads(Group):
    """The processes of a run as threads of this one."""

    def __init__(self, rank: int, size: int, parts: list[torch.Tensor], barrier: threading.Barrier) -> None:
        """Exchange tensors through `parts`, one a rank."""
        super().__init__(rank, size)
        self.parts, self.barrier = parts, barrier

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        """Return the part of every thread, by rank."""
        self.parts[self.rank] = part
        self.barrier.wait()
        parts = torch.stack(self.parts)
        self.barrier.wait()
        return parts

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum of a vector over all threads, in the order of the tree."""
        return self.merge(part)


def states(size: int, objective: Objective, batch_rows: int, widths: tuple[int, ...]) -> list[dict[str, torch.Tensor]]:
    """Return the state of each process after two epochs: of rows with codes and weights, for a network with dropout."""
    random = torch.Generator().manual_seed(5)

    def rows(count: int) -> Rows:
        y = torch.randint(0, max(2, objective.outputs), (count,), generator=random)
        codes = torch.randint(0, 5, (count, 2), generator=random)
        weight = torch.rand(count, generator=random) + 0.5
        y = y if objective.task != "regression" else torch.rand(count, generator=random)
        return Rows(torch.randn(count, 7, generator=random).relu_(), codes, y, weight)

    train, held = rows(3 * batch_rows + 5), rows(30)
    plan = FitSettings(epochs=2, batch_rows=batch_rows, seed=3)
    parts, barrier = [torch.empty(0)] * size, threading.Barrier(size, timeout=60)

    def one(rank: int) -> dict[str, torch.Tensor]:
        network = NetworkSettings(widths=widths, members=2)
        made = Network(7, [(5, 2), (5, 3)], objective.outputs, network, torch.Generator().manual_seed(1))
        run = ShardedRun(made, objective, train, held, plan, group=Threads(rank, size, parts, barrier))
        run.epoch()
        run.epoch()
        state = run.state()
        state["history"] = state["history"][:, :3]  # without seconds
        return state

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


@pytest.mark.parametrize(
    "objective, batch_rows, widths",
    [
        (BINARY, 128, (64, 48)),
        (Objective("multiclass", 3), 40, (33, 17)),
        (Objective("regression", 1, 0.0, 1.0, "poisson"), 8, (9,)),
        (Objective("regression", 3, quantiles=(0.1, 0.9)), 72, ()),
    ],
    ids=["two classes", "three classes", "counts, one row a shard", "quantiles, no hidden layer"],
)
def test_any_number_of_processes_comes_to_the_same_bits(
    objective: Objective, batch_rows: int, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1, 2, 4 and 8 processes, and one that makes no joint call, have the same weights, moments and losses after two epochs."""
    with on_threads(1):
        (alone,) = states(1, objective, batch_rows, widths)
        others = [state for size in (2, 4, 8) for state in states(size, objective, batch_rows, widths)]
        monkeypatch.setattr(Joint, "_compared", lambda *_: False)
        others += states(1, objective, batch_rows, widths)
    for other in others:
        assert {name for name in alone if not torch.equal(alone[name], other[name])} == set()


@pytest.mark.parametrize("rows, batch_rows", [(7, 16), (50, 7)])
def test_a_batch_that_cannot_be_cut(rows: int, batch_rows: int) -> None:
    """Fewer rows than shards are refused in one sentence."""
    plan = FitSettings(batch_rows=batch_rows)
    with pytest.raises(
        SettingError, match=r"a batch of 7 rows cannot be cut into 8 shards: train without --processes\."
    ):
        ShardedRun(made_network(), BINARY, made_rows(rows), made_rows(5), plan, group=Group(0, 1))


def test_other_bits_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each epoch the processes compare their weights, and a difference names the process."""
    run = made_run()
    monkeypatch.setattr(Group, "texts", lambda _, text: [text, "other bits"])
    with pytest.raises(GroupError, match="after epoch 1 the weights of process 1 differ from those of process 0"):
        run.epoch()
