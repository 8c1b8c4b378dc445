"""golden.json read strictly, and this host's answers held to it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.rows import golden
from batchproof.service.bundle.rows.golden import Golden
from batchproof.service.errors import BundleError
from tests.bundles import Content, make_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"), arithmetic="exact")


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    return bundle.read(folder).manifest


@pytest.fixture
def content(folder: Path) -> Content:
    loaded: Content = json.loads((folder / "golden.json").read_bytes())
    return loaded


def test_outputs_have_the_stored_bits(content: Content, manifest: Manifest) -> None:
    """What is read has the type, the shape and the very bytes that were stored."""
    read = golden.parse(json.dumps(content).encode(), manifest)
    assert read.rows == content["rows"]
    for name, stored in content["outputs"].items():
        assert read.outputs[name].dtype.name == stored["dtype"]
        assert read.outputs[name].shape == tuple(stored["shape"])
        assert read.outputs[name].tobytes().hex() == stored["hex"]


@pytest.mark.parametrize(
    "edit, reason",
    [
        (lambda c: c.pop("rows"), "must be an object with exactly the fields rows and outputs"),
        (lambda c: c.update(more=1), "must be an object with exactly the fields rows and outputs"),
        (lambda c: c.update(rows=c["rows"][:31]), "rows must be a list of 32 to 4096 rows"),
        (lambda c: c.update(rows=c["rows"] * 200), "rows must be a list of 32 to 4096 rows"),
        (lambda c: c["rows"][5].pop(), "row 5 must be a list of 7 values"),
        (lambda c: c["rows"].__setitem__(0, {}), "row 0 must be a list of 7 values"),
        (lambda c: c["outputs"].pop("scores"), "outputs must be exactly probabilities, scores, saturated"),
        (lambda c: c["outputs"].update(value={}), "outputs must be exactly probabilities, scores, saturated"),
        (lambda c: c.update(outputs=[]), "outputs must be exactly probabilities, scores, saturated"),
        (lambda c: c["outputs"].update(scores=[]), "outputs.scores must be an object with exactly the fields"),
        (lambda c: c["outputs"]["scores"].pop("hex"), "outputs.scores must be an object with exactly the fields"),
        (lambda c: c["outputs"]["scores"].update(dtype="float64"), "must have dtype float32 and shape [40, 3]"),
        (lambda c: c["outputs"]["scores"].update(shape=[3, 40]), "must have dtype float32 and shape [40, 3]"),
        (lambda c: c["outputs"]["scores"].update(hex="00"), "hex must be 120 values of 4 bytes as hex digits"),
        (lambda c: c["outputs"]["scores"].update(hex=7), "hex must be 120 values of 4 bytes as hex digits"),
        (lambda c: c["outputs"]["scores"].update(hex="zz" * 480), "outputs.scores.hex is not hex digits"),
        (lambda c: c["outputs"]["scores"].update(hex="0000c07f" * 120), "outputs.scores holds NaN or infinity"),
        (lambda c: c["outputs"]["saturated"].update(hex="02" * 40), "outputs.saturated holds a truth value"),
    ],
)
def test_wrong_field_is_refused(
    content: Content, manifest: Manifest, edit: Callable[[Content], object], reason: str
) -> None:
    """Each field that is missing, unknown, of another shape or not a number is named."""
    edit(content)
    with pytest.raises(BundleError) as caught:
        golden.parse(json.dumps(content).encode(), manifest)
    assert str(caught.value).startswith("golden.json ")
    assert reason in str(caught.value)


def test_broken_json_is_refused(manifest: Manifest) -> None:
    """Text that is not JSON is refused with its place."""
    with pytest.raises(BundleError, match=r"golden.json is not JSON: .* at line 1, column 2"):
        golden.parse(b"{", manifest)


def stored(*values: float) -> Golden:
    return Golden([], {"value": np.array(values, dtype=np.float32).reshape(-1, 1)})


def found(*values: float) -> dict[str, np.ndarray]:
    return {"value": np.array(values, dtype=np.float32).reshape(-1, 1)}


def test_equal_bits_pass() -> None:
    """The stored bits pass, exact or not."""
    for exact in (True, False):
        golden.check(stored(0.25, -3.5), found(0.25, -3.5), exact=exact)


@pytest.mark.parametrize("value, other", [(0.25, np.nextafter(np.float32(0.25), np.float32(1))), (0.0, -0.0)])
def test_exact_bundle_needs_the_bits(value: float, other: float) -> None:
    """One unit in the last place, or the sign of zero, is a difference in exact arithmetic and none in float32."""
    golden.check(stored(1.0, value), found(1.0, other), exact=False)
    with pytest.raises(BundleError, match=r"golden row 1 gives value\[0\] = .* \(the bits must be equal\)"):
        golden.check(stored(1.0, value), found(1.0, other), exact=True)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e6])
def test_float32_bundle_has_its_tolerance(value: float) -> None:
    """Within 1e-5 + 1e-5·|value| passes, beyond it is refused."""
    gap = 1e-5 + 1e-5 * abs(value)
    golden.check(stored(value), found(value + 0.9 * gap), exact=False)
    with pytest.raises(BundleError, match="tolerance"):
        golden.check(stored(value), found(value + 1.2 * gap), exact=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answer_that_is_no_number_is_refused(value: float) -> None:
    """NaN and infinity are near nothing."""
    with pytest.raises(BundleError, match="golden row 0"):
        golden.check(stored(1.0), found(value), exact=False)


def test_saturation_flags_are_bits() -> None:
    """A flag that differs is a difference in any arithmetic."""
    flags = {"saturated": np.array([[True], [False]])}
    with pytest.raises(BundleError, match=r"golden row 1 gives saturated\[0\] = True"):
        golden.check(Golden([], flags), {"saturated": np.array([[True], [True]])}, exact=True)
