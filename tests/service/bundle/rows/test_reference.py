"""reference.json read strictly, and values counted into its cells."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.rows import reference
from batchproof.service.errors import BundleError
from tests.bundles import make_bundle, reseal

ROWS = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"), reference_rows=ROWS)


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    return bundle.read(folder).manifest


@pytest.fixture
def content(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "reference.json").read_bytes())
    return loaded


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_statistics_are_read_with_the_bundle(tmp_path: Path, task: str) -> None:
    """Every column has as many rows in its cells as there were training rows."""
    read = bundle.read(make_bundle(tmp_path, task=task, reference_rows=ROWS))

    assert read.reference is not None
    assert read.reference.rows == ROWS
    columns = [*read.reference.features, *read.reference.predictions]
    assert [column.counts.sum() for column in columns if column is not None] == [ROWS] * 8


def test_bundles_without_statistics_are_read(tmp_path: Path) -> None:
    """Statistics may be absent in both versions of the format, and version 1 has none."""
    folder = make_bundle(tmp_path)
    assert bundle.read(folder).reference is None
    reseal(folder, lambda content: content.update(format_version=1))
    assert bundle.read(folder).reference is None


def test_version_1_holds_no_statistics(tmp_path: Path) -> None:
    """A bundle that says it has version 1 and lists reference.json is refused: its other readers would refuse it."""
    folder = make_bundle(tmp_path, reference_rows=ROWS)
    reseal(folder, lambda content: content.update(format_version=1))
    with pytest.raises(BundleError, match=r"lists 'reference.json'; a bundle of format version 1 holds only"):
        bundle.read(folder)


@pytest.mark.parametrize("version", [0, 6, True, "1", 1.0, None])
def test_other_versions_are_refused(tmp_path: Path, version: Any) -> None:
    """Only the whole numbers 1 to 5 are versions that are read."""
    folder = make_bundle(tmp_path)
    reseal(folder, lambda content: content.update(format_version=version))
    with pytest.raises(BundleError, match="this service reads 1 to 5"):
        bundle.read(folder)


def test_a_changed_count_is_found(tmp_path: Path) -> None:
    """The statistics are sealed as every other file is."""
    folder = make_bundle(tmp_path, reference_rows=ROWS)
    path = folder / "reference.json"
    path.write_bytes(path.read_bytes().replace(b"300", b"301", 1))
    with pytest.raises(BundleError, match=r"reference.json has SHA-256"):
        bundle.read(folder)


@pytest.mark.parametrize(
    "edit, reason",
    [
        (lambda c: c.pop("rows"), "exactly the fields"),
        (lambda c: c.update(more=1), "exactly the fields"),
        (lambda c: c.update(rows=0), "rows must hold whole numbers from 1"),
        (lambda c: c.update(rows=True), "rows must hold whole numbers"),
        (lambda c: c.update(rare_rows=1.5), "rare_rows must hold whole numbers"),
        (lambda c: c.update(rows=301), r"features.0.counts has 300 rows in all, but there are 301"),
        (lambda c: c["features"].pop(), "list of 7 entries"),
        (lambda c: c.update(features={}), "list of 7 entries"),
        (lambda c: c["features"][0].update(codes=[]), r"features.0 must be an object with exactly the fields edges"),
        (lambda c: c["features"][1].update(edges=[]), r"features.1 must be an object with exactly the fields codes"),
        (lambda c: c["features"][0]["edges"].reverse(), "ascending finite numbers"),
        (lambda c: c["features"][0]["edges"].__setitem__(0, None), "ascending finite numbers"),
        (lambda c: c["features"][0]["edges"].__setitem__(0, -(10**38)), None),  # a whole number that float64 holds
        (lambda c: c["features"][0].update(edges=list(range(64))), "at most 63"),
        (lambda c: c["features"][1].update(codes=[0, 2]), "whole numbers below 2"),
        (lambda c: c["features"][1].update(codes=[0, 0]), "ascending whole numbers"),
        (lambda c: c["features"][1].update(codes=[False, 1]), "ascending whole numbers"),
        (lambda c: c["features"][0]["counts"].append(0), "list of 11 whole numbers"),
        (lambda c: c["features"][0]["counts"].__setitem__(0, -1), "whole numbers from 0"),
        (lambda c: move(c["features"][2]["counts"], -1), "missing values of a feature that is never missing"),
        (lambda c: c.update(predictions=[]), "predictions must be null or an object"),
        (lambda c: c["predictions"].update(rows=2), "predictions.counts has 300 rows in all"),
        (lambda c: c["predictions"].update(codes=[7]), "whole numbers below 3"),
    ],
)
def test_wrong_statistics_are_refused(
    content: dict[str, Any], manifest: Manifest, edit: Callable[[Any], object], reason: str | None
) -> None:
    """A field that is missing, unknown, mistyped or inconsistent is refused by its name; sound ones are read."""
    edit(content)
    raw = json.dumps(content).encode()
    if reason is None:
        reference.parse(raw, manifest)
        return
    with pytest.raises(BundleError, match=reason) as refused:
        reference.parse(raw, manifest)
    assert str(refused.value).startswith("reference.json ")


def move(counts: list[int], to: int) -> None:
    """Move one row to another cell."""
    counts[0] -= 1
    counts[to] += 1


def test_features_beyond_the_room_may_be_absent(content: dict[str, Any], manifest: Manifest) -> None:
    """A feature without statistics is null, and so are predictions that nobody counted."""
    content["features"][3] = content["predictions"] = None
    read = reference.parse(json.dumps(content).encode(), manifest)
    assert read.features[3] is None
    assert read.predictions == ()


def test_the_number_of_counts_is_bounded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A bundle with more counts than a worker may keep is refused."""
    monkeypatch.setattr(reference, "MAX_CELLS", 10)
    with pytest.raises(BundleError, match="at most 10 are read"):
        bundle.read(folder)


def test_numbers_fall_into_intervals_that_hold_their_upper_edge() -> None:
    """A value equal to an edge is below it, one beyond all is in the last interval, and NaN is missing."""
    column = reference.Column(np.zeros(4, np.int64), np.array([1.0, 2.0]), None)
    assert column.cells(np.array([-9.0, 1.0, 1.5, 2.0, 2.1, 1e300, np.nan])).tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_codes_fall_into_their_own_cell_or_a_common_one() -> None:
    """Codes without a cell of their own share one; missing and unseen have theirs."""
    column = reference.Column(np.zeros(5, np.int64), None, np.array([1, 3]), 4)
    assert column.cells(np.array([0, 1, 2, 3, 4, 5])).tolist() == [2, 0, 2, 1, 3, 4]


def test_text_that_is_not_json_is_refused(manifest: Manifest) -> None:
    """A file that is not JSON is refused by its name."""
    with pytest.raises(BundleError, match=r"^reference\.json is not "):
        reference.parse(b"{", manifest)


def test_an_edge_beyond_float64_is_refused(content: dict[str, Any], manifest: Manifest) -> None:
    """A number that float64 cannot hold is refused however it is written, as a whole number or with an exponent."""
    place = next(place for place, entry in enumerate(content["features"]) if entry and "edges" in entry)
    content["features"][place]["edges"][-1] = 10**400
    with pytest.raises(BundleError, match="holds a whole number of 401 digits"):
        reference.parse(json.dumps(content).encode(), manifest)
    with pytest.raises(BundleError, match="beyond float64"):
        reference.parse(json.dumps(content).replace(str(10**400), "1e400").encode(), manifest)


def test_a_column_is_cut_as_its_feature_is(manifest: Manifest) -> None:
    """Numbers and dates are cut at edges, categories by their codes; a column counts each value once."""
    for feature in manifest.signature.inputs:
        is_code = feature.kind == "categorical"
        splits = np.array([0, 1], np.int64 if is_code else np.float64)
        column = reference.column_for(feature, np.zeros(len(splits) + (3 if is_code else 2), np.int64), splits)
        assert (column.edges is None) == is_code
        assert column.count(np.array([0, 1, 1], splits.dtype)).sum() == 3
