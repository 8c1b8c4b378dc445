"""What is decided before a fit: encoding, network and loop, by rule from rows and task; several plans may compete."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from batchproof.training.fit.loop import FitSettings
from batchproof.training.fit.plan import Plan
from batchproof.training.fit.selection import defaults as rules
from batchproof.training.network.network import NetworkSettings
from batchproof.training.preprocessing.preprocess import Encoding
from batchproof.training.settings import SettingError, Settings

ENCODINGS = {
    "plain": Encoding(edges=None),
    "bins": Encoding(edges="distinct"),
    "quantile": Encoding(edges="quantile"),
    "tree": Encoding(edges="tree"),
    "waves": Encoding(edges="distinct", waves=True),
}


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


def network_settings_of(rows: int, settings: Settings) -> NetworkSettings:
    """Return the network that the rules give for `rows` training rows, less what the settings say otherwise."""
    given = {"widths": settings.widths, "members": settings.ensemble, "dropout": settings.dropout}
    given |= {"eps": settings.eps, "momentum": settings.momentum, "affine": settings.affine}
    return replace(rules.network_settings(rows), **_said(given))


def fit_settings_of(rows: int, settings: Settings) -> FitSettings:
    """Return the fit that the rules give for `rows` training rows, less what the settings say otherwise."""
    given = {
        "epochs": settings.epochs,
        "batch_rows": settings.batch_rows,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "average_decay": settings.ema,
        "patience": settings.patience,
        "clip_norm": settings.clip,
        "seed": settings.seed,
        "device": device_of(settings.device),
    }
    found = replace(rules.fit_settings(rows), **_said(given))
    return found if settings.patience else replace(found, patience=rules.patience(found.epochs))


def device_of(wanted: str) -> str:
    """Return the torch device to fit on; SettingError where CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise SettingError("--device cuda was asked for, but torch finds no CUDA device here: use cpu or auto.")
    return "cuda" if wanted != "cpu" and available else "cpu"


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
