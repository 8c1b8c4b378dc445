"""Every setting of a training run and what it does: flags, settings files and --help are made from here."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from batchproof.service.bundle.signature import Kind, Task
from batchproof.service.runtime.memory import size_bytes
from batchproof.training.goal import METRICS, OBJECTIVES, GoalError, check_constraints, quantile_levels, threshold_rule
from batchproof.training.option_groups import (
    CARD,
    DATA,
    FIT,
    GOAL,
    LIMITS,
    NETWORK,
    NEVER_FALLS,
    NEVER_RISES,
    OUT,
    SPLIT,
    TUNING,
    option,
    spoken,
    typed,
)


class SettingError(ValueError):
    """A setting that cannot be used; the message is one sentence for the person who set it."""


TASKS: tuple[str, ...] = get_args(Task)
ENCODINGS = ("plain", "bins", "quantile", "tree", "waves")  # training.fit.selection.candidates defines them


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults; None: decided from the data."""

    target: str = option("", DATA, "the column to predict (required); several numbers at once: height,weight,age")
    task: Task | None = option(None, DATA, "the task; left out: inferred from the target", TASKS)  # noqa: RUF009 - option is a dataclass field
    numeric: tuple[str, ...] = option((), DATA, "read this column as numbers")
    categorical: tuple[str, ...] = option((), DATA, "read this column as categories, integers too")
    date: tuple[str, ...] = option((), DATA, "read this column as dates or times")
    text: tuple[str, ...] = option(
        (), DATA, "read this column as text exactly as written; only an empty cell is missing"
    )
    drop: tuple[str, ...] = option((), DATA, "leave this column out")
    keep: tuple[str, ...] = option((), DATA, "keep this column although it looks constant or like an identifier")
    missing: tuple[str, ...] = option(
        (), DATA, "a value that stands for a missing one, such as -999; COLUMN=VALUE for one column"
    )
    date_format: tuple[str, ...] = option(
        (), DATA, "how dates are written, such as %d/%m/%Y, beside ISO 8601; COLUMN=FORMAT for one column"
    )
    decimal: str | None = option(None, DATA, "the sign before decimals, . or ,; left out: found from the table")
    thousands: str | None = option(None, DATA, "the sign between thousands: , . ' _ or a blank; left out: found")
    strip: bool = option(False, DATA, "leave out blanks around texts; around numbers and dates they always are")
    rare_rows: int = option(5, DATA, "categories seen in fewer training rows are treated as unseen, and not published")

    skip_missing_target: bool = option(False, DATA, "leave out rows without a value in the target", where_set=True)

    objective: str | None = option(
        None,
        GOAL,
        "a number: what its fit minimises; poisson for counts (0 or more) and gamma for amounts (above 0) predict the mean by "
        "its logarithm, so that it is never below 0; left out: squared_error",
        OBJECTIVES,
        where_set=True,
    )
    quantiles: str | None = option(
        None, GOAL, "a number: levels such as 0.1,0.5,0.9, whose quantiles are predicted beside it", where_set=True
    )
    increasing: tuple[str, ...] = option((), GOAL, NEVER_FALLS, where_set=True)
    decreasing: tuple[str, ...] = option((), GOAL, NEVER_RISES, where_set=True)
    weight: str | None = option(
        None, GOAL, "column that says how much each row counts in the fit, 0 or more; no feature", where_set=True
    )
    class_weight: str | None = option(
        None,
        GOAL,
        "how much each class counts in the fit: balanced (every class as much as any other), or CLASS=WEIGHT,CLASS=WEIGHT "
        "(others count 1); probabilities then are those of rows so weighted, and a threshold moves labels without that",
        where_set=True,
    )
    class_prior: str | None = option(
        None,
        GOAL,
        "the shares of classes where the model will be used, CLASS=SHARE,CLASS=SHARE; probabilities then are those at these",
        where_set=True,
    )
    metric: str | None = option(
        None,
        GOAL,
        "what epochs and encodings are chosen by on the validation rows; left out: the loss that is fitted",
        tuple(METRICS),
        where_set=True,
    )
    threshold: str | None = option(
        None,
        GOAL,
        "two classes: from which probability of the second class on it is the label; the one with the best f1 or "
        "balanced_accuracy, or the least cost=FP:FN (what a false positive and a false negative cost), on the validation "
        "rows; or a number. Probabilities stay as they are",
        where_set=True,
    )

    seed: int = option(0, SPLIT, "seed of the split, of the initial weights and of the order of rows")
    validation_share: float = option(0.2, SPLIT, "share of the rows for validation")
    test_share: float = option(0.2, SPLIT, "share of the rows for the test")
    split_column: str | None = option(None, SPLIT, "column that says train, validation or test for each row")
    group: str | None = option(
        None,
        SPLIT,
        "column whose rows of one value all stay on one side, such as a customer; no feature, unless --keep names it",
        where_set=True,
    )
    time: str | None = option(
        None,
        SPLIT,
        "column with a date or number: training rows come before validation rows, and those before test rows; no feature, "
        "unless --keep names it",
        where_set=True,
    )
    test: str | None = option(
        None,
        SPLIT,
        "a table with the test rows, a file, folder or address as TABLE is; TABLE is then split into train and validation",
    )

    widths: tuple[int, ...] | None = option(None, NETWORK, "units of each hidden layer, for example 256,256")
    ensemble: int | None = option(None, NETWORK, "number of networks whose scores are averaged, all in one graph")
    dropout: float | None = option(None, NETWORK, "share of hidden units that each training step drops")
    eps: float = option(1e-5, NETWORK, "batch norm: added to the variance")
    momentum: float = option(0.1, NETWORK, "batch norm: weight of the newest batch in the running statistics")
    affine: bool = option(True, NETWORK, "batch norm: learn a scale and a shift for each channel (gamma, beta)")
    encoding: str | None = option(
        None, NETWORK, "encoding of numeric columns; left out: chosen by validation loss", ENCODINGS
    )

    quick: bool = option(
        False,
        FIT,
        "a first model within seconds: one encoding, a small network and few steps; settings that are given hold",
        where_set=True,
    )
    epochs: int | None = option(None, FIT, "most passes over the training rows")
    batch_rows: int | None = option(None, FIT, "rows in one training step")
    learning_rate: float | None = option(None, FIT, "peak of the warm-up and cosine schedule (AdamW)")
    weight_decay: float | None = option(None, FIT, "AdamW's decoupled weight decay")
    ema: float | None = option(None, FIT, "decay of the averaged weights per step; 0 switches averaging off")
    patience: int | None = option(None, FIT, "epochs without a better validation loss before stopping")
    clip: float | None = option(None, FIT, "largest norm of the gradient of a step")
    device: str = option("auto", FIT, "where to fit", ("auto", "cpu", "cuda"))
    memory: str | None = option(None, FIT, "memory to plan for, like 4GB; larger tables are read through scratch files")
    threads: int | None = option(None, FIT, "CPU threads of torch; the same number of threads gives the same bits")
    processes: int | None = option(
        None, FIT, "train on so many processes of this machine: 1, 2, 4 and 8 give the same bits (docs/distributed.md)"
    )
    tune: int | None = option(None, TUNING, "number of trials; an interrupted search continues where it stopped")
    time_budget_s: float | None = option(None, TUNING, "seconds for the search, with or without --tune")

    resume: bool = option(False, FIT, "continue from the checkpoint of an interrupted run with the same settings")

    name: str | None = option(None, OUT, "name of the model; left out: the table's file name")
    models: str = option("models", OUT, "folder to write NAME/VERSION/ into")
    version: int | None = option(None, OUT, "version to write; left out: the newest plus one")
    arithmetic: str = option("float32", OUT, "exact: the same bits on every machine, proved", ("float32", "exact"))
    live: str | None = option(None, OUT, "HTML file that shows the run while it goes on; open it in a browser")
    tensorboard: str | None = option(None, OUT, "folder for TensorBoard logs; needs the extra `tensorboard`")
    mlflow: str | None = option(
        None, OUT, "address of an MLflow server, or of its database, to log the run and the bundle to; needs mlflow"
    )
    register: str | None = option(None, OUT, "name under which MLflow's registry gets the bundle as a new version")
    alias: str | None = option(None, OUT, "alias of that version in the registry, such as challenger")
    golden_rows: int = option(64, OUT, "synthetic rows whose predictions are stored to verify hosts with (32 or more)")

    card: str | None = option(None, CARD, "file to write the model card to: Markdown that the Hugging Face Hub reads")
    intended_use: str | None = option(None, CARD, "what the model is for, and for whom")
    out_of_scope_use: str | None = option(None, CARD, "what the model must not be used for")
    license: str | None = option(None, CARD, "licence of the model: an identifier such as apache-2.0, or a name")
    contact: str | None = option(None, CARD, "who answers questions about the model")

    def kind_of(self, column: str) -> Kind | None:
        """Return the kind that --numeric, --categorical or --date gives to a column; None: inferred from its values."""
        kinds: tuple[Kind, ...] = ("numeric", "categorical", "date")
        return next((kind for kind in kinds if column in getattr(self, kind)), None)


def make(values: Mapping[str, Any]) -> Settings:
    """Return checked settings: every value has the type of its field and is within its limits. Raises SettingError."""
    settings = Settings(**{name: _typed(name, value) for name, value in values.items()})
    for name in ("increasing", "decreasing"):
        if name in values and not values[name]:
            raise SettingError(f"{flag(name)} names no column: name features, such as carat,depth, or leave it out.")
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Raise SettingError where a setting, or a combination of two, cannot be used."""
    if not settings.target:
        raise SettingError("no target: name the column to predict with --target COLUMN.")
    for entry in fields(Settings):
        choices, value = entry.metadata["choices"], getattr(settings, entry.name)
        if choices and value is not None and value not in choices:
            raise SettingError(f"{flag(entry.name)} is {value!r}: use one of {', '.join(choices)}.")
    if settings.register and not settings.mlflow:
        raise SettingError("--register needs --mlflow, the address of the registry.")
    if settings.card and not Path(settings.card).absolute().parent.is_dir():
        raise SettingError(f"--card is {settings.card}: there is no folder {Path(settings.card).absolute().parent}.")
    if settings.alias and not settings.register:
        raise SettingError("--alias needs --register, the name of the model in the registry.")
    for name, (low, high) in LIMITS.items():
        value = getattr(settings, name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(low <= each <= high for each in values):
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            subject = "each number" if isinstance(value, tuple) else "it"
            raise SettingError(f"{flag(name)} is {shown}: {subject} must be between {low} and {high}.")
    _check_signs(settings)
    check_columns(settings)
    _check_goal(settings)
    if settings.validation_share + settings.test_share >= 1:
        raise SettingError("--validation-share and --test-share leave no training rows: their sum must be below 1.")


def check_columns(settings: Settings, targets: tuple[str, ...] = ()) -> None:
    """Refuse a column under two flags; several names in one flag, `targets` too, are looked at when the columns are known."""
    seen: dict[str, str] = {}
    for kind in ("numeric", "categorical", "date", "text", "drop"):
        for column in getattr(settings, kind):
            if seen.setdefault(column, kind) != kind:
                raise SettingError(f"column {column!r} is named in both --{seen[column]} and --{kind}: choose one.")
    targets, article = targets or (settings.target,), "a" if len(targets) > 1 else "the"
    for target in set(targets).intersection(settings.drop):
        raise SettingError(f"column {target!r} is {article} target and cannot be dropped.")
    try:
        check_constraints(settings.increasing, settings.decreasing, targets, settings.drop)
    except GoalError as error:
        raise SettingError(str(error)) from error
    roles = {**dict.fromkeys(targets, "target"), **dict.fromkeys(settings.drop, "drop")}
    for role in ROLES:
        column = getattr(settings, role)
        if column is not None and roles.setdefault(column, role) != role:
            raise SettingError(
                f"column {column!r} is named in both {flag(roles[column])} and {flag(role)}: choose one."
            )


def _check_signs(settings: Settings) -> None:
    if settings.decimal not in (None, ".", ","):
        raise SettingError(f"--decimal is {settings.decimal!r}: use . or ,")
    if settings.thousands is not None and settings.thousands not in THOUSANDS:
        raise SettingError(f"--thousands is {settings.thousands!r}: use one of , . ' _ or a blank.")
    if settings.thousands == (settings.decimal or "."):
        raise SettingError(f"--thousands and --decimal are both {settings.thousands!r}: they must differ.")


def _check_goal(settings: Settings) -> None:
    ways = [flag(name) for name in ("group", "time", "split_column") if getattr(settings, name) is not None]
    if len(ways) > 1:
        raise SettingError(f"{' and '.join(ways)} both say how rows are split: choose one.")
    for name in ("objective", "quantiles"):
        if getattr(settings, name) is not None and settings.task not in (None, "regression"):
            raise SettingError(f"{flag(name)} is for numbers, but --task is {settings.task}: leave one of them out.")
    if settings.quantiles is not None and settings.objective not in (None, "squared_error"):
        raise SettingError(f"--quantiles are fitted beside squared error: leave --objective {settings.objective} out.")
    try:
        threshold_rule(settings.threshold)
        quantile_levels(settings.quantiles)
        size_bytes("1B" if settings.memory is None else settings.memory)
    except ValueError as error:
        raise SettingError(str(error)) from error


ROLES = ("split_column", "weight", "group", "time")  # settings that name a column with a task of its own
THOUSANDS = (",", ".", " ", "'", "_")


def flag(name: str) -> str:
    """Return the flag that sets the field `name`."""
    return "--" + name.replace("_", "-")


def type_name(name: str) -> str:
    """Return the type of a field as `Settings` writes it: `str | None`, `tuple[int, ...] | None`, `bool`."""
    kind, choices = next((entry.type, entry.metadata["choices"]) for entry in fields(Settings) if entry.name == name)
    if choices:  # a Literal is text; its choices are checked elsewhere
        return "str | None" if type(None) in get_args(kind) else "str"
    return kind.__name__ if type(kind) is type else str(kind)


def _typed(name: str, value: Any) -> Any:
    value, fits = typed(value, type_name(name))
    if not fits:
        shown = list(value) if isinstance(value, tuple) else value
        raise SettingError(f"{flag(name)} is {shown!r}: it must be {spoken(type_name(name))}.")
    return value
