"""The estimators speak of their parameters, not of flags."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchproof.training.estimators.estimator import BatchNormMLP, BatchNormMLPClassifier
from batchproof.training.estimators.messages import spoken

ROWS = 40


@pytest.mark.parametrize(
    "given, column, said",
    [
        ({"dropout": 2.0}, range(ROWS), "dropout is 2.0: it must be between 0.0 and 0.95."),
        (
            {"validation_share": 0.5, "test_share": 0.6},
            range(ROWS),
            "validation_share and test_share leave no training rows",
        ),
        ({"device": "tpu"}, range(ROWS), "device is 'tpu': use one of"),
        ({"random_state": -1}, range(ROWS), "random_state is -1: it must be between"),
        ({"date": ("a",)}, range(ROWS), "column 'a' holds numbers, not ISO 8601 dates: do not name it in date."),
        ({}, [None] * ROWS, "column 'a' has no value in any row: leave it out."),
        ({}, [1.0] * ROWS, "every column was dropped: name one in keep to keep it."),
    ],
)
def test_messages_name_parameters(given: dict[str, Any], column: Any, said: str) -> None:
    """What `fit` refuses is told in the words of the class's own signature."""
    with pytest.raises(ValueError, match=f"^{said}") as caught:
        BatchNormMLPClassifier(**given).fit(pd.DataFrame({"a": column}), np.arange(ROWS) % 2)
    assert "--" not in str(caught.value)


def test_flags_that_are_no_parameters_are_said_to_be_flags() -> None:
    """How texts are read is no parameter of the estimators, which take typed frames: the message does not name one."""
    with pytest.raises(ValueError, match=r"--decimal , .* in a data frame, convert the column instead"):
        BatchNormMLPClassifier().fit(pd.DataFrame({"a": ["1,5", "2,5"] * (ROWS // 2)}), np.arange(ROWS) % 2)


def test_names_in_quotes_stay() -> None:
    """A column that looks like a flag keeps its name, and an unknown flag its dashes."""
    assert (
        spoken("column '--drop' is odd: see --rare-rows, --other") == "column '--drop' is odd: see rare_rows, --other"
    )


def test_the_face_itself_is_no_estimator() -> None:
    """What classifier and regressor share cannot be made: it has no goal."""
    with pytest.raises(TypeError, match="_goal"):
        BatchNormMLP()
