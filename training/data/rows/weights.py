"""How much each row counts in the fit: a column of weights, and weights of classes."""

import numpy as np

from batchproof.service.bundle.signature import class_text
from batchproof.service.features.row_encoder import listed
from batchproof.training.data.columns import typed
from batchproof.training.data.tables.table import RawTable, first_place, nearest
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import Target
from batchproof.training.data.text.text_options import options_of
from batchproof.training.goal import BALANCED
from batchproof.training.settings import Settings


def row_weights(table: RawTable, settings: Settings) -> np.ndarray | None:
    """Return the weight of each row [rows] float64 from the column that the settings name; None where they name none.

    Raises TableError for a weight that is missing or negative, and where no row counts.
    """
    name = settings.weight
    if name is None:
        return None
    column = typed(name, table.arrow.column(name), "numeric", options_of(name, settings, is_cells=table.is_text))
    if column is None or column.kind != "numeric":
        raise TableError(f"--weight names {name!r}, whose values are not numbers: a weight is a number, 0 or more.")
    for is_bad, fault in ((column.is_missing, "no finite number"), (column.values < 0, "a negative number")):
        if is_bad.any():
            where = first_place(is_bad, table.place)
            raise TableError(
                f"the weight {name!r} has {fault} in {where}: write a number, 0 or more; a row of weight 0 is left out."
            )
    if not column.values.any():
        raise TableError(f"the weight {name!r} is 0 in every row: no row would count.")
    return column.values


def class_weights(target: Target, train: np.ndarray, given: str | None, weight: np.ndarray | None) -> np.ndarray | None:
    """Return the weight of each class [classes] float64 as `given` says; None where nothing is given.

    `balanced` gives every class the same sum over the rows numbered `train`, each counted by its `weight` [rows].
    Raises TableError for a regression, an unknown class, or a weight that is not above 0.
    """
    if given is None:
        return None
    if target.classes is None:
        raise TableError(
            f"--class-weight needs classes, but the target {target.name!r} is a number: weigh rows, not classes."
        )
    if given == BALANCED:
        sums = np.bincount(target.y[train], None if weight is None else weight[train], len(target.classes))
        return np.asarray(sums.sum() / (len(sums) * sums))
    found = listed_by_class(target, "class-weight", "weight", given)
    return np.array([found.get(class_text(label), 1.0) for label in target.classes])


def counting(y: np.ndarray, weight: np.ndarray | None, class_weight: np.ndarray | None) -> np.ndarray | None:
    """Return how much each row counts [rows]: its own weight times that of its class y [rows]; None: all alike."""
    if class_weight is None:
        return weight
    of_class: np.ndarray = class_weight[y]
    return of_class if weight is None else weight * of_class


def weight_lines(target: Target, weight: np.ndarray | None, class_weight: np.ndarray | None) -> list[str]:
    """Return a line on the weights of rows and one on those of classes, for people."""
    lines = [] if weight is None else [f"weights of rows: {weight.min():g} to {weight.max():g}"]
    if class_weight is not None:
        pairs = zip(target.classes or (), class_weight.tolist(), strict=True)
        shown = ", ".join(f"{class_text(label)} {value:.4g}" for label, value in pairs)
        lines.append(f"weights of classes: {shown}")
    return lines


def listed_by_class(target: Target, option: str, what: str, given: str) -> dict[str, float]:
    """Return the numbers in `CLASS=NUMBER,…` of a flag, by class; a class may hold commas and equals signs itself.

    `what` says what each number is. Raises TableError for an unknown class, or a number that is not above 0.
    """
    names = [class_text(label) for label in target.classes or ()]
    found: dict[str, float] = {}
    for entry in entries(given):
        label, _, text = entry.rpartition("=")
        if label not in names:
            raise TableError(
                f"--{option} names {label!r}, but the target {target.name!r} has no such class: {_hint(label, names)}"
            )
        if label in found:
            raise TableError(f"--{option} names the class {label!r} twice: give it one {what}.")
        try:
            found[label] = float(text)
        except ValueError:
            found[label] = 0.0
        if not 0.0 < found[label] < np.inf:
            raise TableError(f"--{option} gives {label!r} the {what} {text!r}: use a number above 0.")
    return found


def entries(given: str) -> list[str]:
    """Split `CLASS=WEIGHT,CLASS=WEIGHT` at the commas behind a weight: a class may hold commas itself."""
    found, begun = [], ""
    for part in given.split(","):
        begun = f"{begun},{part}" if begun else part
        if "=" in part:
            found.append(begun.strip())
            begun = ""
    return [*found, begun.strip()] if begun.strip() else found


def _hint(label: str, names: list[str]) -> str:
    hint = nearest(label, names)
    return hint if hint.startswith("did you") else f"its classes are {listed(names)}."
