"""AdamW (Loshchilov, Hutter 2019): the step of torch's own optimiser, without what that loads.

`torch.optim.AdamW(fused=True)` calls the same operator and gives the same bits. Its constructor imports torch's compiler, which
takes longer than a short fit, and each of its steps does bookkeeping for features that are not used here.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)  # decay of the mean of the gradients, and of their squares
EPS = 1e-8  # added to the root of the mean square
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # as torch names them in a saved state


class AdamW:
    """Steps of AdamW on some parameters; `rate` is the learning rate of the next one."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, weight_decay: float) -> None:
        """Start with moments of zero for every parameter, on its device."""
        self.rate, self.weight_decay = rate, weight_decay
        self.parameters: list[Tensor] = list(parameters)
        self.moments: dict[str, list[Tensor]] = {
            "step": [torch.zeros((), device=parameter.device) for parameter in self.parameters],
            "exp_avg": [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters],
            "exp_avg_sq": [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters],
        }

    def forget_gradients(self) -> None:
        """Leave every parameter without a gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move each parameter by its gradient."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        assert len(gradients) == len(self.parameters), "every parameter is used by every row"
        steps, means, squares = (self.moments[name] for name in MOMENTS)
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            self.parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=self.rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self.weight_decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Return the moments as `number.name`, by the number of the parameter."""
        return {f"{number}.{name}": tensor for name in MOMENTS for number, tensor in enumerate(self.moments[name])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Return to a saved `state`; raises KeyError or RuntimeError for a missing or misshapen moment."""
        for key, tensor in self.state().items():
            tensor.copy_(state[key])
