import torch

from batchproof.training.fit.ema import Average
from batchproof.training.network.network import Network, NetworkSettings


def test_weights_and_running_statistics_trail_the_network() -> None:
    """After each step the average moves towards the network by 1 - decay, running statistics included."""
    network = Network(2, [], 1, NetworkSettings(widths=(3,)))
    average = Average(network, 0.9)
    average.steps = 10_000  # past the first steps, which move faster
    with torch.no_grad():
        network.head.weight.fill_(1.0)
        average.network.head.weight.zero_()
        network.blocks[0].norm.running_mean.fill_(5.0)
    average.update()
    assert torch.allclose(average.network.head.weight, torch.tensor(0.1))
    assert torch.allclose(average.network.blocks[0].norm.running_mean, torch.tensor(0.5))


def test_first_steps_move_faster() -> None:
    """The average of the first steps is not held back by the random start."""
    network = Network(2, [], 1, NetworkSettings(widths=(3,)))
    average = Average(network, 0.99)
    with torch.no_grad():
        network.head.weight.fill_(1.0)
        average.network.head.weight.zero_()
    average.update()
    assert torch.allclose(average.network.head.weight, torch.tensor(1 - 2 / 11))
