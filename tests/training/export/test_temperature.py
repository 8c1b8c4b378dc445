import pytest
import torch

from batchproof.training.export import temperature
from batchproof.training.network.objective import Objective

MULTICLASS = Objective("multiclass", 3)


def drawn(rows: int, sharpness: float) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, 3, generator=random) * 2
    y = torch.multinomial(scores.softmax(dim=1), 1, generator=random)[:, 0]
    return scores * sharpness, y


@pytest.mark.parametrize("sharpness", [0.7, 1.6])
def test_scores_that_are_too_sure_or_too_shy_are_mended(sharpness: float) -> None:
    """With thousands of rows the fitted temperature undoes the sharpness."""
    scores, y = drawn(5_000, sharpness)
    assert temperature.fit(scores, y, MULTICLASS) == pytest.approx(sharpness, rel=0.08)


def test_calibrated_scores_are_left_alone() -> None:
    """A gain within its standard error is noise."""
    scores, y = drawn(300, 1.0)
    assert temperature.fit(scores, y, MULTICLASS) == 1.0


def test_a_separable_handful_of_rows_does_not_sharpen_without_end() -> None:
    """Seventy rows that are all right would reward the lowest temperature; the pseudo-row of unknown class does not."""
    y = torch.arange(70) % 3
    scores = torch.nn.functional.one_hot(y, 3) * 9.0
    assert temperature.fit(scores, y, MULTICLASS) >= 1.0


def test_regression_has_no_temperature() -> None:
    """Values are not divided by anything."""
    assert temperature.fit(torch.ones(9, 1), torch.zeros(9), Objective("regression", 1)) == 1.0
