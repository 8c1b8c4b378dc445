"""Folding changes no function: the folded float64 network is the torch network in eval mode."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproof.service.bundle.signature import Task
from batchproof.training.network.batchnorm import recompute
from batchproof.training.network.fold import (
    Folded,
    Layer,
    Member,
    Norm,
    Output,
    fold_block,
    outputs_of,
    predictions,
    shifted,
)
from batchproof.training.network.fold_torch import fold_network, unfolded_scores
from batchproof.training.network.network import Network, NetworkSettings
from batchproof.training.network.parity import FOLD_TOLERANCE, ParityError, check_fold, spread
from batchproof.training.network.tensors import Rows

ROWS = 64


def make_rows(inputs: int, codes: int) -> Rows:
    """Draw rows for a network with one embedded column of `codes` codes, or none."""
    drawn = torch.Generator().manual_seed(5)
    column = torch.randint(0, codes, (ROWS, 1), generator=drawn) if codes else None
    return Rows(torch.randn(ROWS, inputs, generator=drawn), column, torch.zeros(ROWS))


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), max_size=3),
    members=st.integers(1, 4),
    codes=st.integers(0, 5),
    affine=st.booleans(),
    input_rate=st.sampled_from([0.0, 6.0]),
    task=st.sampled_from([("binary", 1), ("multiclass", 4), ("regression", 1)]),
    temperature=st.floats(0.5, 2.0),
)
def test_parity(
    widths: list[int],
    members: int,
    codes: int,
    *,
    affine: bool,
    input_rate: float,
    task: tuple[Task, int],
    temperature: float,
) -> None:
    """For any widths, members, task, temperature, with gamma, beta and factors or without: equal to 1e-10 of the spread."""
    torch.manual_seed(0)
    rows = make_rows(3, codes)
    shape = NetworkSettings(tuple(widths), members, affine=affine, input_rate=input_rate)
    network = Network(3, [(codes, 2)] if codes else [], task[1], shape)
    for parameter in network.parameters():  # gamma and beta away from 1 and 0, of either sign
        torch.nn.init.normal_(parameter)
    frozen = recompute(network, rows)
    folded = fold_network(frozen, [0] if codes else [], Output(task[0]), temperature)
    found = folded.scores(rows.x.numpy(), None if rows.codes is None else rows.codes.numpy())
    check_fold(unfolded_scores(frozen, rows), found, temperature)
    if task[0] == "binary":
        assert not found[:, 0].any()


def test_a_changed_weight_is_found() -> None:
    """The parity check names the stage where one folded weight is off by 1e-6."""
    torch.manual_seed(0)
    rows = make_rows(3, 0)
    frozen = recompute(Network(3, [], 2, NetworkSettings((8,))), rows)
    folded = fold_network(frozen, [], Output("multiclass"))
    folded.members[0].layers[0].weight[0, 0] += 1e-6
    with pytest.raises(ParityError, match="the fold stage changed the network: row"):
        check_fold(unfolded_scores(frozen, rows), folded.scores(rows.x.numpy(), None), 1.0)


def test_a_bias_before_batch_norm() -> None:
    """A bias of the linear map before batch norm folds too, shifted by the mean."""
    norm = Norm(np.array([2.0]), np.array([4.0]), 0.0, np.array([3.0]), np.array([1.0]))
    layer = fold_block(np.array([[5.0]]), norm, np.array([7.0]))
    assert layer.weight.item() == 5.0 * 3.0 / 2.0
    assert layer.bias.item() == (7.0 - 2.0) * 3.0 / 2.0 + 1.0


def test_values_in_the_targets_unit() -> None:
    """A regression's score is undone from standard units; a classifier's scores become probabilities."""
    scores = np.array([[0.0], [2.0]])
    np.testing.assert_array_equal(predictions(scores, Output("regression", 10.0, 3.0)), [[10.0], [16.0]])
    np.testing.assert_allclose(predictions(np.array([[0.0, np.log(3.0)]]), Output("binary")), [[0.25, 0.75]])


def test_constant_scores_are_compared_in_units_of_one() -> None:
    """Where a network gives every row one answer, up to float64's rounding, that rounding is not its spread."""
    constant = np.array([[-0.7], [-0.7], [np.nextafter(-0.7, 0.0)]])
    assert spread(constant) == spread(np.zeros((3, 1))) == 1.0
    assert check_fold(constant, constant[::-1], 1.0) < FOLD_TOLERANCE
    assert spread(np.array([[0.0], [2.0]])) == 1.0
    assert spread(np.array([[0.0], [2e-9]])) == 1e-9


def test_a_logarithm_gives_the_mean_within_its_limits() -> None:
    """exp(score) times the unit, and never zero, infinite or less than a normal float32, in any unit."""
    np.testing.assert_allclose(
        predictions(np.array([[0.0], [np.log(3.0)]]), Output("regression", 0.0, 2.0, is_log=True)), [[2], [6]]
    )
    for unit in (1e-20, 1.0, 1e20):
        output = Output("regression", 0.0, unit, is_log=True)
        least, most = output.log_limits
        assert (least, most) == (round(least), round(most))
        ends = predictions(np.array([[-1e9], [1e9]]), output)[:, 0].astype(np.float32)
        assert np.finfo(np.float32).tiny <= ends[0] < unit < ends[1] <= np.finfo(np.float32).max


def test_several_targets_have_units_of_their_own() -> None:
    """Each score is a value in its own target's unit, and values of different targets are not put in order."""
    output = Output("regression", value_mean=(10.0, -1.0), value_std=(2.0, 0.5))
    assert predictions(np.array([[1.0, 4.0], [-1.0, 0.0]]), output).tolist() == [[12.0, 1.0], [8.0, -1.0]]


def test_quantiles_do_not_cross() -> None:
    """Behind the value its quantiles stand in order, in the target's unit, and by their name."""
    answered = outputs_of(np.array([[0.5, 2.0, -1.0, 1.0]]), Output("regression", 10.0, 3.0))
    np.testing.assert_array_equal(answered["value"], [[11.5]])
    np.testing.assert_array_equal(answered["quantiles"], [[7.0, 13.0, 16.0]])
    assert set(outputs_of(np.array([[0.5]]), Output("regression", 10.0, 3.0))) == {"value"}
    assert set(outputs_of(np.array([[0.0, 0.5]]), Output("binary"))) == {"probabilities"}


@pytest.mark.parametrize(("task", "shift"), [("binary", [0.5, 2.0]), ("multiclass", [0.5, 2.0, -1.0])])
def test_a_shift_of_the_scores_is_shared_by_the_members(task: Task, shift: list[float]) -> None:
    """The summed last biases move by the shift, of two classes so that the first stays 0; nothing else changes."""
    layer = Layer(np.ones((len(shift), 2)), np.zeros(len(shift)))
    folded = Folded((), (), (Member((layer,)), Member((layer,))), Output(task))
    moved = shifted(folded, np.array(shift))
    total = sum(member.layers[-1].bias for member in moved.members)
    np.testing.assert_allclose(total, np.array(shift) - (shift[0] if task == "binary" else 0.0))
    assert all(member.layers[-1].weight is layer.weight for member in moved.members)
