"""The sharded loop: which rows and masks a process gets, and when it stops."""

from functools import partial

import pytest
import torch

from batchproof.training.distributed.group import Group
from batchproof.training.distributed.group_error import GroupError
from batchproof.training.fit.loop import FitSettings, fit
from batchproof.training.fit.sharded import ShardedRun
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
