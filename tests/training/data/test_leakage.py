"""What makes a test look better than the world will is found and named."""

import numpy as np
import pytest

from batchproof.service.bundle.signature import Feature, Signature, Task
from batchproof.service.features.arrays import Arrays
from batchproof.training.data.leakage import Findings, find
from batchproof.training.data.rows.split import Split
from batchproof.training.data.target import Target

ROWS = 600
SPLIT = Split(np.arange(400), np.arange(400, 500), np.arange(500, ROWS))
NUMERIC = tuple(Feature(name=name, kind="numeric", value_type="float", missing=True) for name in ("x", "z"))
WORD = Feature(name="w", kind="categorical", value_type="string", missing=False, categories=("a", "b"))


def findings(task: Task, y: np.ndarray, x: np.ndarray, codes: np.ndarray) -> Findings:
    """Look at a table of two numeric columns, x and noise, and one categorical."""
    random = np.random.default_rng(1)
    classes = None if task == "regression" else tuple(int(code) for code in np.unique(y))
    signature = Signature(inputs=(*NUMERIC, WORD), target="y", classes=classes)
    whole = np.stack([x, random.normal(size=ROWS)], axis=1)
    arrays = {part: Arrays(whole[rows], codes[rows, None]) for part, rows in SPLIT._asdict().items()}
    return find(signature, arrays, Target("y", task, y, classes, ""), SPLIT)


@pytest.fixture
def random() -> np.random.Generator:
    """Return the source of this file's rows."""
    return np.random.default_rng(0)


def test_nothing_found(random: np.random.Generator) -> None:
    """A table of noise and of missing values has nothing to warn of."""
    y, x = random.integers(0, 2, ROWS), random.normal(size=ROWS)
    x[::5] = np.nan
    found = findings("binary", y, x, random.integers(0, 2, ROWS))
    assert found == Findings((), {"validation": 0, "test": 0}, {})
    assert not found.lines(SPLIT)


def test_a_feature_that_is_the_target(random: np.random.Generator) -> None:
    """A feature that alone gives the class away, or the value, is named; one that only helps is not."""
    y = random.integers(0, 2, ROWS)
    found = findings("binary", y, y + random.normal(0, 0.01, ROWS), y)
    assert [leak.feature for leak in found.leaks] == ["x", "w"]
    assert found.lines(SPLIT)[0].startswith("warning: 'x' removes 100.0% of the error by itself: will it be known when")
    values = random.normal(size=ROWS)
    for unit in (1e-310, 1e30, 1e100):
        assert [leak.feature for leak in findings("regression", values, values * unit, y).leaks] == ["x"]
    assert not findings("binary", y, y + random.normal(0, 0.5, ROWS), random.integers(0, 2, ROWS)).leaks


def test_duplicates_across_the_split(random: np.random.Generator) -> None:
    """Rows of the test that equal a training row, missing values included, are counted."""
    y, x, codes = random.integers(0, 2, ROWS), random.normal(size=ROWS), random.integers(0, 2, ROWS)
    x[3] = np.nan
    signature = Signature(inputs=(NUMERIC[0], WORD), target="y", classes=(0, 1))
    for test_row, train_row in ((500, 3), (501, 4), (502, 5)):
        x[test_row], y[test_row], codes[test_row] = x[train_row], y[train_row], codes[train_row]
    codes[502] = 1 - codes[502]
    arrays = {part: Arrays(x[rows, None], codes[rows, None]) for part, rows in SPLIT._asdict().items()}
    found = find(signature, arrays, Target("y", "binary", y, (0, 1), ""), SPLIT)
    assert found.duplicates == {"validation": 0, "test": 2}
    assert "warning: 2 of 100 test rows (2.0%) equal a training row." in found.lines(SPLIT)


def test_rare_classes(random: np.random.Generator) -> None:
    """A class with few training rows is named."""
    y = (np.arange(ROWS) % 40 == 0).astype(np.int64)
    found = findings("binary", y, random.normal(size=ROWS), random.integers(0, 2, ROWS))
    assert found.rare_classes == {"1": 10}
    assert found.lines(SPLIT) == ["warning: class '1' has 10 of 400 training rows: check its predictions separately."]
