"""What is decided before one fit."""

from dataclasses import dataclass

from training.fit.loop import FitSettings
from training.network.network import NetworkSettings
from training.preprocessing.preprocess import Encoding


@dataclass(frozen=True)
class Plan:
    """One way to fit a table."""

    name: str
    encoding: Encoding
    network: NetworkSettings
    fit: FitSettings
