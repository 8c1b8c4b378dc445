"""The table of who changes: counted row by row, and written so that almost none is not none."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bench.heatmap import heatmap
from bench.invariance_table import contenders, fold, network, numpy_run, percent, shares, torch_run

ROWS = np.random.default_rng(1).normal(size=(40, 32))


def test_shares_count_rows() -> None:
    """A run that changes the last row of each batch changes one row in as many."""

    def run(batch: np.ndarray) -> np.ndarray:
        found = batch[:, :3].astype(np.float32)
        if len(batch) > 1:
            found[-1] += 1
        return found

    assert shares(run, ROWS, [2, 4, 8]) == pytest.approx([1 / 2, 1 / 4, 1 / 8])


def test_contenders_run_one_network() -> None:
    """What is compared is one function: torch and NumPy agree, and so do the exported models, which scale first."""
    expected = numpy_run(fold(network()), ROWS)
    exported = [one.run(ROWS) for one in contenders(ROWS) if "torch" not in one.engine and "NumPy" not in one.engine]
    spread = float(np.std(expected))

    assert np.abs(torch_run(network(), ROWS) - expected).max() < 1e-4 * spread
    assert len(exported) == 5
    assert max(np.abs(scores - exported[0]).max() for scores in exported) < 1e-4 * spread


def test_batchproof_changes_no_row() -> None:
    """As this project runs them, float32 and exact keep every row's bits."""
    ours = [one for one in contenders(ROWS) if "Batchproof" in one.engine]

    assert [one.arithmetic for one in ours] == ["float32", "exact"]
    assert [shares(one.run, ROWS, [2, 7, 40]) for one in ours] == [[0, 0, 0]] * 2


@pytest.mark.parametrize(
    "share, text", [(0.0, "0"), (1.0, "100 %"), (0.0001, "0.1 %"), (0.9999, "99.9 %"), (0.5, "50.0 %")]
)
def test_almost_none_is_not_none(share: float, text: str) -> None:
    """Only no row at all is 0, only every row is 100 %."""
    assert percent(share) == text


def test_picture_is_whole() -> None:
    """The picture is well-formed, with a cell for each share."""
    drawn = ET.fromstring(heatmap("<shares>", [2, 3], [("a & b", [0.0, 1.0]), ("c", [0.001, 0.5])]))
    namespace = "{http://www.w3.org/2000/svg}"

    assert len(drawn.findall(f"{namespace}rect")) == 1 + 4
    assert "1 %" in [text.text for text in drawn.findall(f"{namespace}text")]
