"""The bounds of a model's inputs."""

import numpy as np

from batchproof.service.features.arrays import ArrayBounds
from tests.bundles import INPUTS, signature_of


def test_bounds_are_those_of_the_signature() -> None:
    """So many numbers and dates, and codes from 0 to below each feature's count."""
    bounds = ArrayBounds.of(signature_of("multiclass", INPUTS))
    counts = bounds.code_counts

    assert bounds.widths == (4, 3)
    assert bounds.admits(None)
    assert bounds.admits(np.stack([counts - 1, np.zeros(3, np.int64)]))
    for place in range(3):
        for wrong in (-1, counts[place]):
            codes = np.zeros((2, 3), np.int64)
            codes[1, place] = wrong
            assert not bounds.admits(codes)
