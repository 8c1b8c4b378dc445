"""The learning rate of each step: a linear warm-up, then half a cosine down to zero."""

import math


def share(step: int, steps: int, warmup: float) -> float:
    """Return the share of the greatest learning rate at `step` of `steps`, the first `warmup` of which (a share) rise."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
