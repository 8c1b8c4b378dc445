"""What is decided before one fit."""

from dataclasses import dataclass

from batchproof.training.fit.loop import FitSettings
from batchproof.training.network.network import NetworkSettings
from batchproof.training.preprocessing.preprocess import Encoding


@dataclass(frozen=True)
class Plan:
    """One way to fit a table: a candidate."""

    name: str  # that of its encoding
    encoding: Encoding
    network: NetworkSettings
    fit: FitSettings
