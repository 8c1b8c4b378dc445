"""How a setting is declared, the groups that --help shows settings in, the limits of numbers, and types in words."""

from dataclasses import field
from typing import Any

DATA = "columns"
GOAL = "goal"
SPLIT = "split"
NETWORK = "network"
FIT = "fit"
TUNING = "tuning"
OUT = "bundle"
CARD = "model card"

GROUPS = {
    DATA: "How the columns of the table are read. Types are inferred and shown; these flags override them. A flag with "
    "COLUMN names one column, several with commas (a,b), or is repeated.",
    GOAL: "What a fit minimises, how much rows and classes count, and what fits are chosen by. Left out: all rows alike, and the loss.",
    SPLIT: "Which rows train, which decide when to stop (validation), and which only measure the result (test).",
    NETWORK: "The batch-norm MLP. What you leave out is set by the number of rows, or chosen by validation.",
    FIT: "How the network is fitted.",
    TUNING: "Optuna searches the settings that you leave out, by validation loss; needs the extra `tune`.",
    OUT: "What is written, and where.",
    CARD: "What only you know of the model. It is stored in the bundle, and shown in its report and on its card.",
}


NEVER_FALLS = (
    "numbers or dates such as carat,depth with which the prediction never falls, whatever the others are: each value and quantile; "
    "of two classes, the probability of the second (the class that bundle.json lists last); several classes are refused"
)
NEVER_RISES = "numbers or dates with which the prediction never rises; otherwise as --increasing"
PROCESSES = (1, 2, 4, 8)  # numbers of processes that can share the shards of a batch equally
LIMITS: dict[str, tuple[float, float]] = {
    "rare_rows": (1, 10**9),
    "seed": (0, 2**32 - 1),
    "validation_share": (0.01, 0.9),
    "test_share": (0.01, 0.9),
    "widths": (1, 65_536),
    "ensemble": (1, 64),
    "dropout": (0.0, 0.95),
    "eps": (1e-12, 1.0),
    "momentum": (0.0, 1.0),
    "epochs": (1, 1_000_000),
    "batch_rows": (2, 10_000_000),
    "learning_rate": (1e-8, 10.0),
    "weight_decay": (0.0, 10.0),
    "ema": (0.0, 0.999_999),
    "patience": (1, 1_000_000),
    "clip": (1e-6, 1e6),
    "threads": (1, 4096),
    "tune": (1, 100_000),
    "time_budget_s": (1.0, 1e9),
    "version": (1, 2**31 - 1),
    "golden_rows": (32, 10_000),
}


def option(default: Any, group: str, text: str, choices: tuple[str, ...] = (), *, where_set: bool = False) -> Any:
    """Declare a setting: its default, its group and line in --help, and its choices if they are few.

    A setting of a bundle is published in its bundle.json; one that is published only `where_set` is absent at its default.
    """
    return field(default=default, metadata={"group": group, "help": text, "choices": choices, "where_set": where_set})


def spoken(kind: str) -> str:
    """Return a type that `type_name` returned in words."""
    words = {
        "str": "text",
        "int": "a whole number such as 10",
        "float": "a number such as 0.1",
        "bool": "true or false",
        "tuple[int, ...]": "a list of whole numbers such as [256, 256]",
        "tuple[str, ...]": 'a list of column names such as ["a", "b"]',
    }
    return words[kind.removesuffix(" | None")]


def typed(value: Any, wanted: str) -> tuple[Any, bool]:
    """Return a value as a type that `type_name` returned has it, a list as a tuple, and whether it is of that type."""
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, tuple):
        item = int if "int" in wanted else str
        return value, "tuple" in wanted and all(type(each) is item for each in value)
    if value is None:
        return value, "None" in wanted
    if "tuple" in wanted:
        return value, False
    if "float" in wanted:
        fits = type(value) in (int, float)
        return float(value) if fits else value, fits
    return value, type(value).__name__ in wanted.split(" | ")
