"""The candidates for a table: encoding, network and loop, from the settings and, where they are open, the defaults."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from batchproof.training.data.dataset import Dataset
from batchproof.training.fit.context import Plan
from batchproof.training.fit.loop import FitSettings
from batchproof.training.fit.selection import defaults, quick
from batchproof.training.network.network import NetworkSettings
from batchproof.training.preprocessing.fitting import Encoding
from batchproof.training.settings import SettingError, Settings

ENCODINGS = {
    "plain": Encoding(edges=None, calendar=False),
    "bins": Encoding(edges="distinct"),
    "quantile": Encoding(edges="quantile"),
    "tree": Encoding(edges="tree"),
    "waves": Encoding(edges="distinct", waves=True),
}


def candidates_for(rows: int, settings: Settings, classes: int = 0) -> list[Plan]:
    """Return the plans to choose among for `rows` training rows of so many classes (0: numbers), the preferred one first.

    They differ in their encoding: where the settings give one, or ask for a quick fit, there is one candidate. What the
    settings leave open follows from rows and classes. Raises SettingError.
    """
    network, fit = _network_settings(rows, settings, classes), _fit_settings(rows, settings, classes)
    open_names = quick.encodings(rows) if settings.quick else defaults.encodings(rows)
    names = open_names if settings.encoding is None else (settings.encoding,)
    return [Plan(name, ENCODINGS[name], network, fit) for name in names]


def candidates_of(data: Dataset, settings: Settings) -> list[Plan]:
    """Return the plans to choose among for a table, the preferred one first; raises SettingError."""
    return candidates_for(len(data.split.train), settings, len(data.signature.classes or ()))


def shortened(plan: Plan, rows: int) -> Plan:
    """Return the plan of a trial on `rows` training rows: one narrow member without dropout or factors, and few steps."""
    batch_rows = min(plan.fit.batch_rows, defaults.TRIAL_BATCH_ROWS)
    epochs = min(plan.fit.epochs, defaults.epochs_of(defaults.TRIAL_STEPS, rows, batch_rows))
    fit = replace(
        plan.fit,
        epochs=epochs,
        batch_rows=batch_rows,
        learning_rate=max(plan.fit.learning_rate, defaults.TRIAL_RATE),
        average_decay=min(plan.fit.average_decay, defaults.TRIAL_DECAY),
        patience=min(plan.fit.patience, defaults.patience(epochs)),
    )
    widths = tuple(min(width, defaults.TRIAL_WIDTH) for width in plan.network.widths)
    network = replace(plan.network, widths=widths, members=1, dropout=0.0, input_rate=0.0)
    return replace(plan, network=network, fit=fit)


def device_of(wanted: str) -> str:
    """Return the torch device to fit on; SettingError where CUDA is requested and absent."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise SettingError("--device cuda: torch finds no CUDA device here; use cpu or auto.")
    return "cuda" if wanted != "cpu" and available else "cpu"


def _network_settings(rows: int, settings: Settings, classes: int) -> NetworkSettings:
    values = {"widths": settings.widths, "members": settings.ensemble, "dropout": settings.dropout}
    values |= {"eps": settings.eps, "momentum": settings.momentum, "affine": settings.affine}
    base = quick.network_settings(rows, classes) if settings.quick else defaults.network_settings(rows, classes)
    return replace(base, **_set(values))


def _fit_settings(rows: int, settings: Settings, classes: int) -> FitSettings:
    values = {
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
    base = quick.fit_settings(rows, classes) if settings.quick else defaults.fit_settings(rows, classes)
    fit = replace(base, **_set(values))
    return fit if settings.patience else replace(fit, patience=defaults.patience(fit.epochs))


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are set."""
    return {name: value for name, value in values.items() if value is not None}
