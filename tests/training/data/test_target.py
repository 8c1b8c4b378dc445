"""The task and the classes, from the target."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchproof.training.data.columns import typed
from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import Target, target_of


def goal(values: list[Any], task: Any = None) -> Target:
    """Return the goal of a target column."""
    column = typed("y", pa.chunked_array([pa.array(values)]))
    assert column is not None
    return target_of(column, task)


@pytest.mark.parametrize(
    "values, task, classes",
    [
        (["no", "yes", "no", "no"], "binary", ("no", "yes")),
        (["b", "a", "c"] * 2, "multiclass", ("a", "b", "c")),
        ([True, False, True, True], "binary", (False, True)),
        ([0, 1, 1, 0], "binary", (0, 1)),
        ([1.0, 2.0, 1.0, 2.0], "binary", (1, 2)),
        ([3, 1, 2] * 2, "multiclass", (1, 2, 3)),
        (list(range(30)), "regression", None),
        ([1.5, 2.5, 3.5], "regression", None),
    ],
)
def test_inferred(values: list[Any], task: str, classes: tuple[Any, ...] | None) -> None:
    """Text, booleans, two numbers and few whole numbers are classes in their own type and order; others are values."""
    found = goal(values)
    assert (found.task, found.classes) == (task, classes)
    if classes is not None:
        assert [classes[code] for code in found.y] == values
        assert [type(label) for label in classes] == [type(label) for label in found.classes or ()]


def test_asked_for() -> None:
    """--task takes few whole numbers as values, and many as classes."""
    np.testing.assert_array_equal(goal([3, 1, 2, 3], "regression").y, [3.0, 1.0, 2.0, 3.0])
    assert len(goal([*range(12)] * 2, "multiclass").classes or ()) == 12


@pytest.mark.parametrize(
    "values, task, sentence",
    [
        (
            ["a", None, "b"],
            None,
            "the target 'y' has no value in row 1: fill in the values or",
        ),
        ([1.5, float("inf")], None, "the target 'y' has no finite value in row 1: "),
        (["a", "a"], None, "the target 'y' is 'a' in every row: there is nothing to predict."),
        ([2.5, 2.5], "regression", "the target 'y' is 2.5 in every row: there is nothing to predict."),
        (["a", "b"], "regression", "the target 'y' is text, and a regression needs numbers."),
        (["a", "b", "c"] * 2, "binary", "the target 'y' has 3 classes, but --task binary needs two."),
        (["a", "b"] * 2, "multiclass", "the target 'y' has two classes: its task is binary."),
        (["a", "b", "c"], None, "the target 'y' has 3 classes in 3 rows: at most 1 are allowed."),
    ],
)
def test_refusals(values: list[Any], task: Any, sentence: str) -> None:
    """A target that cannot be predicted is refused in one sentence."""
    with pytest.raises(TableError, match=sentence):
        goal(values, task)


@pytest.mark.parametrize(
    "values, said",
    [
        ([1e300, -1e300, 3.0], r"has values as large as 1e\+300, and predictions are 32-bit floats: choose a unit"),
        ([1.7e308, -1.7e308, 3.0], r"has values as large as 1.7e\+308, and predictions"),
        ([1e-300, 2e-300, 3e-320], "has values as large as 2e-300, and predictions"),
        (
            [1e16, 1e16 + 2, 1e16 + 4],
            r"varies by 4 around 1e\+16, and predictions are 32-bit floats, which cannot distinguish",
        ),
    ],
)
def test_values_that_no_answer_can_state_are_refused(values: list[float], said: str) -> None:
    """A target that float32 takes for 0, infinity or a constant is one sentence that names it."""
    with pytest.raises(TableError, match=f"the target 'y' {said}"):
        goal(values)
