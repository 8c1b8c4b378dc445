"""What is decided before a fit: encoding, network and loop, by rule from rows and task; several plans may compete."""

from dataclasses import dataclass, replace

from training import rules
from training.fit import FitSettings
from training.network import NetworkSettings
from training.preprocess import Encoding

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


def plans(rows: int, network: NetworkSettings, fit: FitSettings, encoding: str | None) -> list[Plan]:
    """Return the plans to choose among for `rows` training rows, the preferred one first.

    A given encoding leaves nothing to choose.
    """
    if encoding is not None:
        return [Plan(encoding, ENCODINGS[encoding], network, fit)]
    return [Plan(name, ENCODINGS[name], network, fit) for name in rules.encodings(rows)]


def shortened(plan: Plan, rows: int) -> Plan:
    """Return the plan of a trial on `rows` training rows: one member, fewer steps."""
    fit = rules.fit_settings(rows, plan.fit, steps=rules.TRIAL_STEPS)
    epochs, patience = min(fit.epochs, plan.fit.epochs), min(fit.patience, plan.fit.patience)
    return replace(plan, network=replace(plan.network, members=1), fit=replace(fit, epochs=epochs, patience=patience))
