from dataclasses import replace

import numpy as np
import torch

from batchproof.training.fit.adamw import AdamW
from batchproof.training.network.layers.signs import project
from batchproof.training.network.network import Network, NetworkSettings

SETTINGS = NetworkSettings(widths=(6, 5), members=3, dropout=0.0)


def test_members_side_by_side_are_plain_networks() -> None:
    """Each member's scores are those of Linear, batch norm, ReLU, Linear with its own slice of the weights."""
    torch.manual_seed(0)
    network = Network(4, [], 2, SETTINGS).eval()
    x = torch.randn(9, 4)
    scores = network.member_scores(x, None)
    for member in range(3):
        hidden = x
        for block in network.blocks:
            linear = hidden @ block.linear.weight[member].T
            hidden = torch.relu(linear / (1 + block.norm.eps) ** 0.5)  # fresh statistics: mean 0, variance 1
        expected = hidden @ network.head.weight[member].T + network.head.bias[member]
        assert torch.allclose(scores[:, member], expected, atol=1e-6)
    assert torch.equal(network(x), scores.mean(dim=1))


def test_members_learn_nothing_from_one_another() -> None:
    """The gradient of one member's scores is zero in every other member's weights."""
    network = Network(4, [], 2, SETTINGS)
    network.member_scores(torch.randn(9, 4), None)[:, 0].sum().backward()
    for layer in (*(block.linear for block in network.blocks), network.head):
        assert layer.weight.grad is not None
        assert layer.weight.grad[0].abs().sum() > 0
        assert layer.weight.grad[1:].abs().sum() == 0


def test_embeddings_follow_the_encoded_columns() -> None:
    """The first layer reads x, then one row of each table."""
    network = Network(2, [(3, 4), (5, 1)], 1, NetworkSettings(widths=()))
    codes = torch.tensor([[2, 4]])
    joined = network.joined(torch.tensor([[7.0, 8.0]]), codes)
    assert joined[0, :2].tolist() == [7.0, 8.0]
    assert torch.equal(joined[0, 2:6], network.embeddings[0].weight[2])
    assert torch.equal(joined[0, 6:], network.embeddings[1].weight[4])


def test_embeddings_learn_as_from_the_gradient_of_all_columns() -> None:
    """The first layer computes the gradient of embedded columns only: it is that of torch's own product, and so is the weight's."""
    torch.manual_seed(0)
    network = Network(3, [(4, 2), (5, 3)], 1, SETTINGS)
    x, codes = torch.randn(9, 3), torch.stack([torch.arange(9) % 4, torch.arange(9) % 5], dim=1)
    parameters = dict(network.named_parameters())

    def gradients() -> list[torch.Tensor]:
        scores = network.member_scores(x, codes).square().mean()
        return list(torch.autograd.grad(scores, list(parameters.values())))

    ours = gradients()
    network.get_submodule("blocks.0.linear").constant = 0
    for name, own, theirs in zip(parameters, ours, gradients(), strict=True):
        assert own.abs().sum() > 0, name
        assert torch.allclose(own, theirs, rtol=1e-5, atol=1e-7), name


def test_batch_norm_without_gamma_and_beta() -> None:
    """affine=False leaves batch norm without parameters."""
    network = Network(2, [], 1, NetworkSettings(affine=False))
    assert all(block.norm.weight is None and block.norm.bias is None for block in network.blocks)


def test_factors_of_inputs_begin_at_one_and_multiply_columns() -> None:
    """The same first weights and scores as without factors; later those of columns times their factors, for every member."""
    torch.manual_seed(0)
    plain = Network(3, [(4, 2)], 2, SETTINGS, torch.Generator().manual_seed(1)).eval()
    scaled = Network(3, [(4, 2)], 2, replace(SETTINGS, input_rate=6.0), torch.Generator().manual_seed(1)).eval()
    x, codes = torch.randn(9, 3), torch.arange(9)[:, None] % 4
    torch.testing.assert_close(scaled(x, codes), plain(x, codes))
    factors = torch.tensor([0.5, -2.0, 0.0, 3.0, 1.5])
    with torch.no_grad():
        scaled.get_parameter("blocks.0.linear.factor").copy_(factors / 6.0)
        plain.embeddings[0].weight.mul_(factors[3:])
    torch.testing.assert_close(scaled(x, codes), plain(x * factors[:3], codes))


def test_factors_of_inputs_learn_so_many_times_as_fast() -> None:
    """A step of the optimiser moves a weight by the rate, and the factor of an input by six times as much."""
    torch.manual_seed(0)
    network = Network(4, [], 2, replace(SETTINGS, input_rate=6.0))
    layer = network.get_submodule("blocks.0.linear")
    factors, weight = layer.factor * layer.input_rate, layer.weight.detach().clone()
    network(torch.randn(9, 4)).square().mean().backward()
    AdamW(network.parameters(), 1e-3, 0.0).step()
    moved = (layer.factor * layer.input_rate - factors).abs()
    torch.testing.assert_close(moved, torch.full((4,), 6e-3), rtol=1e-2, atol=0)
    torch.testing.assert_close((layer.weight - weight).abs().amax(), torch.tensor(1e-3), rtol=1e-2, atol=0)


def test_factors_keep_monotone_constraints() -> None:
    """A factor below 0 would turn the sign of every weight of its input: with a constraint none goes there."""
    network = Network(3, [], 1, replace(SETTINGS, input_rate=6.0), directions=np.asarray([1, 0, -1], np.int8))
    factor = network.get_parameter("blocks.0.linear.factor")
    with torch.no_grad():
        factor.copy_(torch.tensor([-1.0, 2.0, -0.5]))
    project(network.limits())
    assert factor.tolist() == [0.0, 2.0, 0.0]
