import torch

from batchproof.training.fit.selection.choice import winner
from batchproof.training.network.tensors import sample


def test_a_clear_gain_displaces_the_preferred_plan() -> None:
    """A plan better on nearly every row wins, and of two such plans the better one."""
    preferred = torch.rand(200, generator=torch.Generator().manual_seed(0)) + 1.0
    assert winner([preferred, preferred - 0.1, preferred - 0.2]) == 2


def test_luck_does_not() -> None:
    """A lower mean that rests on a few rows is within its standard error: the preferred plan stays."""
    preferred = torch.ones(100)
    lucky = preferred.clone()
    lucky[:2] = torch.tensor([0.0, 1.5])
    assert winner([preferred, lucky]) == 0


def test_one_plan_or_one_row_leaves_no_choice() -> None:
    """There is no error to hold a single row's difference against."""
    assert winner([torch.ones(5)]) == 0
    assert winner([torch.ones(1), torch.zeros(1)]) == 0


def test_a_sample_has_no_row_twice_and_repeats_by_seed() -> None:
    """The trial rows are drawn without repetition, rising, the same for the same seed."""
    drawn = sample(100, 30, 1)
    assert len(set(drawn.tolist())) == 30
    assert drawn.tolist() == sorted(drawn.tolist())
    assert torch.equal(drawn, sample(100, 30, 1))
    assert not torch.equal(drawn, sample(100, 30, 2))
    assert sample(5, 30, 1).tolist() == [0, 1, 2, 3, 4]
