"""From prepared data to a fitted network: what is left open by the settings is decided here, by rule."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from training import fit as fits
from training import preprocess as preprocesses
from training import rules
from training import target as targets
from training.checkpoint import Checkpoint
from training.data import Data
from training.fit import FitResult, FitSettings
from training.network import Network, NetworkSettings
from training.preprocess import Encoding, Preprocess, Raw
from training.progress import Progress
from training.rows import Rows, encode
from training.settings import SettingError, Settings
from training.target import Target


@dataclass(frozen=True)
class Fitted:
    """The best network of a fit, with all that it was fitted with."""

    preprocess: Preprocess
    target: Target
    rows: dict[str, Rows]  # train, validation
    result: FitResult
    chosen: dict[str, Any]  # what was decided, for provenance


def fit_table(
    data: Data, settings: Settings, progress: Progress, stop: Callable[[], bool], checkpoint: Checkpoint
) -> Fitted:
    """Fit a network to the training rows; `stop` is asked after each epoch."""
    resume = checkpoint.load() if settings.resume else None
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    rows = len(data.split.train)
    encoding = Encoding() if settings.encoding is None else Encoding(edges=settings.encoding)
    classes = data.goal.classes
    target = targets.fit(data.goal.task, data.y("train"), len(classes or ()))
    preprocess = preprocesses.fit(
        Raw(*data.arrays["train"]), data.y("train"), classes=classes is not None, encoding=encoding
    )
    encoded = {
        part: encode(preprocess, target, Raw(*data.arrays[part]), data.y(part)) for part in ("train", "validation")
    }
    network_settings = network_settings_of(rows, settings)
    fit_settings = fit_settings_of(rows, settings)
    network = Network(preprocess.width, tables_of(data, preprocess), target.outputs, network_settings)
    result = fits.fit(
        network,
        target,
        encoded["train"],
        encoded["validation"],
        fit_settings,
        progress=progress.epoch,
        stop=stop,
        resume=resume,
        checkpoint=checkpoint.save,
    )
    chosen = {"encoding": asdict(encoding), "network": asdict(network_settings), "fit": asdict(fit_settings)}
    return Fitted(preprocess, target, encoded, result, chosen)


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
    return replace(rules.fit_settings(rows), **_said(given))


def device_of(wanted: str) -> str:
    """Return the torch device to fit on; SettingError where CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise SettingError("--device cuda was asked for, but torch finds no CUDA device here: use cpu or auto.")
    return "cuda" if wanted != "cpu" and available else "cpu"


def tables_of(data: Data, preprocess: Preprocess) -> list[tuple[int, int]]:
    """Return (codes, dimensions) of each embedded column: its categories, missing and unseen."""
    features = data.signature.categorical
    counts = [len(features[column].categories or ()) + 2 for column in preprocess.embedded.tolist()]
    return [(count, rules.dimensions(count)) for count in counts]


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
