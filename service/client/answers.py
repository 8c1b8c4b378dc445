"""The answers of several requests for one frame, joined."""

from collections.abc import Sequence

import numpy as np


def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return each column of all parts, one after another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
