"""Which candidate is best: by validation loss, and with regard to its noise.

Small tables fit every candidate in full and keep the winner's network. Large ones compare short fits on a sample of the
training rows, then fit the winner. A candidate replaces the preferred one only where it is better by more than two
standard errors of the difference, paired by row: on a hundred validation rows the least of three losses is mostly luck.
"""

import math
from collections.abc import Sequence

from torch import Tensor

ERRORS = 2.0  # standard errors that a difference has to exceed to be clear


def winner(losses: Sequence[Tensor]) -> int:
    """Return the number of the best candidate, given each one's validation losses [rows], the preferred first."""
    preferred = losses[0].double()
    best, least = 0, 0.0
    for number, other in enumerate(losses[1:], 1):
        gain = preferred - other.double()  # [rows]
        error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
        mean = float(gain.mean())
        if mean > ERRORS * error and mean > least:
            best, least = number, mean
    return best
