"""An exponential moving average of a network: weights and running statistics, updated after every step."""

import copy

import torch

from batchproof.training.network.network import Network


class Average:
    """The averaged network: it is validated, and the best one is exported."""

    def __init__(self, network: Network, decay: float) -> None:
        """Start from the network as it is."""
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0
        self._trailing = floating(self.network)
        self._leading = floating(network)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the network by 1 - decay, and by more in the first steps, when the average is mostly its start."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._trailing, self._leading, 1.0 - decay)


def floating(network: Network) -> list[torch.Tensor]:
    """Return weights and running statistics, in a fixed order and without integer counters."""
    tensors = [*network.parameters(), *network.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
