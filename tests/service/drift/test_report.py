"""A window's report: which figures there are, that unchanged rows raise no alarm, and that changed ones do."""

from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.drift.counts import Layout, WindowCounts, count, counted
from batchproof.service.drift.report import MIN_ROWS, WindowReport, assess, figure_count
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference.engine import Engine, EngineOptions
from tests.bundles import make_bundle, random_rows

ROWS = 20_000


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    return bundle.read(make_bundle(tmp_path_factory.mktemp("models"), reference_rows=ROWS))


@pytest.fixture(scope="module")
def layout(read: bundle.Bundle) -> Layout:
    assert read.reference is not None
    return Layout(read.manifest.signature, read.reference)


@pytest.fixture(scope="module")
def fresh(read: bundle.Bundle) -> tuple[Arrays, Outputs]:
    """Return 2 000 rows of the same source as the training rows, with their outputs."""
    signature = read.manifest.signature
    arrays = Encoder(signature).encode_rows(random_rows(signature, 2000, seed=99)).arrays
    return arrays, Engine(read.model, EngineOptions(device="cpu")).run(arrays)


def drifted(report: WindowReport) -> set[tuple[str, str]]:
    return {(one.feature, one.kind) for one in report.drifted}


def test_unchanged_rows_drift_nowhere(layout: Layout, fresh: tuple[Arrays, Outputs]) -> None:
    """Rows of the source that the training rows came from have all figures, and none beyond its threshold."""
    report = assess(layout, count(layout, *fresh))
    assert report.rows == 2000
    assert len(report.changes) == figure_count(layout.signature, layout.reference)
    assert drifted(report) == set()
    assert all(one.figure.threshold > 0 for one in report.changes)


@pytest.mark.parametrize(
    "matrix, column, change, feature, kinds",
    [
        ("numeric", 0, lambda values: values + 4.0, "length_mm", {"psi", "out_of_range"}),
        ("numeric", 0, lambda values: np.where(np.arange(2000) % 4, values, np.nan), "length_mm", {"psi", "missing"}),
        ("numeric", 1, lambda values: np.where(np.arange(2000) % 50, values, -5000.0), "count", {"out_of_range"}),
        ("numeric", 2, lambda values: values + 2e8, "seen", {"psi", "out_of_range"}),
        ("categorical", 0, lambda codes: np.where(np.arange(2000) % 5, codes, 3), "island", {"psi", "unseen"}),
        ("categorical", 1, lambda codes: np.where(codes == 1, 0, codes), "grade", {"psi"}),
    ],
)
def test_a_shifted_column_is_found_and_named(
    layout: Layout, fresh: tuple[Arrays, Outputs], matrix: str, column: int, change: Any, feature: str, kinds: set[str]
) -> None:
    """A shift, missing values, values beyond the range and new categories drift in that feature and in no other."""
    arrays, outputs = fresh
    changed = getattr(arrays, matrix).copy()
    changed[:, column] = change(changed[:, column])
    report = assess(layout, count(layout, arrays._replace(**{matrix: changed}), outputs))
    assert drifted(report) == {(feature, kind) for kind in kinds}
    assert report.drifted_names == [feature]


def test_changed_predictions_are_found(layout: Layout, fresh: tuple[Arrays, Outputs]) -> None:
    """Predictions drift under the target's name, whatever their rows look like."""
    arrays, outputs = fresh
    report = assess(layout, count(layout, arrays, {"probabilities": np.roll(outputs["probabilities"], 1, axis=1)}))
    assert drifted(report) == {("colour", "prediction")}


def test_few_rows_have_no_figures(layout: Layout, fresh: tuple[Arrays, Outputs]) -> None:
    """Below the least number of rows there is no figure, so nothing drifts."""
    few = fresh[0].take(slice(MIN_ROWS - 1))
    report = assess(layout, count(layout, few, None))
    assert report == WindowReport(MIN_ROWS - 1, ())
    assert report.as_dict()["figures"] == []


def test_counts_come_back_out_of_plain_data(layout: Layout, fresh: tuple[Arrays, Outputs]) -> None:
    """Counts that went through the workers' files are the same."""
    counts = count(layout, *fresh)
    assert counted(layout, counts.as_plain()).as_plain() == counts.as_plain()


def test_parts_add_up_to_the_whole(layout: Layout, fresh: tuple[Arrays, Outputs]) -> None:
    """Rows counted in two parts have the counts of all of them."""
    arrays, outputs = fresh
    sums = WindowCounts(layout)
    for part in (slice(0, 700), slice(700, None)):
        sums.add(count(layout, arrays.take(part), {name: values[part] for name, values in outputs.items()}))
    assert sums.as_plain() == count(layout, arrays, outputs).as_plain()


def test_many_figures_are_cut_to_the_foremost(layout: Layout, fresh: tuple[Arrays, Outputs]) -> None:
    """Of more figures than are shown, those nearest to their thresholds and beyond are."""
    report = assess(layout, count(layout, *fresh))
    foremost = report.foremost(3)
    assert len(foremost) == 3
    assert min(one.excess for one in foremost) == sorted(one.excess for one in report.changes)[-3]


def test_each_of_several_targets_has_its_figure(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The predictions of each target are counted apart: one that moves is found under its own name, and no other."""
    folder = make_bundle(
        tmp_path_factory.mktemp("several"), task="regression", targets=("height", "weight"), reference_rows=4000
    )
    read = bundle.read(folder)
    assert read.reference is not None
    layout, signature = Layout(read.manifest.signature, read.reference), read.manifest.signature
    arrays = Encoder(signature).encode_rows(random_rows(signature, 2000, seed=99)).arrays
    value = Engine(read.model, EngineOptions(device="cpu")).run(arrays)["value"]
    report = assess(layout, count(layout, arrays, {"value": value}))
    assert len(report.changes) == figure_count(signature, read.reference)
    assert {one.feature for one in report.changes if one.kind == "prediction"} == {"height", "weight"}
    moved = assess(layout, count(layout, arrays, {"value": value + np.array([0.0, 1.0], np.float32)}))
    assert drifted(moved) - drifted(report) == {("weight", "prediction")}
