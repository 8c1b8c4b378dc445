"""What is decided before a fit: encoding, network and loop, by rule from rows and task; several plans may compete."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from training import rules
from training.fit import FitSettings
from training.network import NetworkSettings
from training.preprocess import Encoding, Preprocess

ENCODINGS = {
    "plain": Encoding(edges=None),
    "bins": Encoding(edges="distinct"),
    "quantile": Encoding(edges="quantile"),
    "tree": Encoding(edges="tree"),
    "waves": Encoding(edges="distinct", waves=True),
}


@dataclass(frozen=True)
class Plan:
    """One way to fit a table."""

    name: str
    encoding: Encoding
    network: NetworkSettings
    fit: FitSettings
    mixed: bool = False  # every second member reads no bins: a smoother network averages well with a sharp one

    def hidden(self, preprocess: Preprocess) -> Tensor | None:
        """Return which columns of x which member does not read [members, width] bool, or None for none."""
        if not self.mixed or preprocess.piecewise is None or self.network.members < 2:
            return None
        hidden = np.zeros((self.network.members, preprocess.width), bool)
        hidden[1::2, preprocess.bins] = True
        return torch.from_numpy(hidden)


def plans(rows: int, network: NetworkSettings, fit: FitSettings, encoding: str | None) -> list[Plan]:
    """Return the plans to choose among for `rows` training rows, the preferred one first.

    A given encoding leaves nothing to choose.
    """
    if encoding is not None:
        return [Plan(encoding, ENCODINGS[encoding], network, fit)]
    mixed = network.members > 1
    names = rules.encodings(rows)
    return [Plan(name, ENCODINGS[name], network, fit, mixed=mixed and name != "plain") for name in names]


def shortened(plan: Plan, rows: int) -> Plan:
    """Return the plan of a trial on `rows` training rows: one member, fewer steps."""
    fit = rules.fit_settings(rows, plan.fit, steps=rules.TRIAL_STEPS)
    return replace(
        plan, network=replace(plan.network, members=1), fit=replace(fit, epochs=min(fit.epochs, plan.fit.epochs))
    )
