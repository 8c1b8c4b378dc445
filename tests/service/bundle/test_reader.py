"""Bundles as untrusted input: one test for each way in which a folder can be wrong."""

import hashlib
import json
import os
import shutil
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.files import strict_json
from batchproof.service.bundle.files.checksum import is_intact, seal
from batchproof.service.bundle.files.records import Invalid
from batchproof.service.bundle.files.safe_folder import opened
from batchproof.service.bundle.reader import Limits
from batchproof.service.bundle.signature import MAX_FEATURES, Signature
from batchproof.service.errors import BundleError
from tests.bundles import Content, make_bundle, reseal


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "flowers" / "1"))


def refusal(folder: Path, limits: Limits | None = None) -> str:
    with pytest.raises(BundleError) as caught:
        bundle.read(folder, limits)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("arithmetic", ["float32", "exact"])
def test_sound_bundle_is_read(tmp_path: Path, task: str, arithmetic: str) -> None:
    """A bundle as training writes it is read whole, whatever its task and arithmetic."""
    read = bundle.read(make_bundle(tmp_path, task=task, arithmetic=arithmetic))
    assert read.manifest.task == task
    assert set(read.golden.outputs) == {tensor.name for tensor in read.manifest.outputs}
    assert len(read.golden.rows) == 40


@pytest.mark.parametrize("name", ["bundle.json", "golden.json", "model.onnx", "report.html"])
def test_flipped_bit_is_refused(folder: Path, name: str) -> None:
    """A single changed bit anywhere in any file is a BundleError."""
    path, raw = folder / name, (folder / name).read_bytes()
    rng = np.random.default_rng(7)
    for place in {0, len(raw) - 1, *rng.integers(len(raw), size=250).tolist()}:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        refusal(folder)
    path.write_bytes(raw)
    bundle.read(folder)


def test_all_of_the_manifest_is_sealed(folder: Path) -> None:
    """A byte of bundle.json, inverted, is refused wherever it stands: in metrics and provenance too."""
    path, raw = folder / "bundle.json", (folder / "bundle.json").read_bytes()
    for place in range(0, len(raw), 9):
        damaged = bytearray(raw)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        refusal(folder)


def test_edit_that_still_parses_is_refused(folder: Path) -> None:
    """A changed digit of a metric parses, and is refused by the seal."""
    raw = (folder / "bundle.json").read_bytes()
    (folder / "bundle.json").write_bytes(raw.replace(b"0.25", b"0.15"))
    assert refusal(folder) == "bundle.json does not match its own sha256: it was changed after it was written"


def test_seal_covers_the_whole_text() -> None:
    """What seal writes is intact, and neither a space more nor another digest is."""
    raw = seal({"a": 1.5, "b": "é"})
    digest = json.loads(raw)["sha256"]
    assert is_intact(raw, digest)
    assert not is_intact(raw + b" ", digest)
    assert not is_intact(raw, "f" * 64)
    assert seal(json.loads(raw)) == raw


@pytest.mark.parametrize("name", ["bundle.json", "golden.json", "model.onnx", "report.html"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_file_is_refused(folder: Path, name: str, share: float) -> None:
    """A file that ends early is refused by its name."""
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[: int(len(raw) * share)])
    assert refusal(folder).startswith(name)


@pytest.mark.parametrize("name", ["bundle.json", "golden.json", "model.onnx", "report.html"])
def test_missing_file_is_refused(folder: Path, name: str) -> None:
    """A listed file that is not there is refused by its name."""
    (folder / name).unlink()
    assert refusal(folder).startswith(f"{name} is missing")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "model.onnx.data", "weights.safetensors"])
def test_extra_file_is_refused(folder: Path, name: str) -> None:
    """A file that bundle.json does not list is refused by its name."""
    (folder / name).write_text("x")
    assert refusal(folder) == f"{name!r} is in the folder but bundle.json does not list it"


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "sub/model.onnx", "model.onnx\x00", ".", "notes.txt"])
def test_listed_name_outside_the_format_is_refused(folder: Path, name: str) -> None:
    """A listed name that is not one of the format's, a path above all, is refused and never opened."""
    reseal(folder, lambda content: content["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    assert refusal(folder).startswith("bundle.json lists ")


@pytest.mark.parametrize("name", ["model.onnx", "golden.json"])
def test_unlisted_necessary_file_is_refused(folder: Path, name: str) -> None:
    """The files that serving needs must be listed."""
    reseal(folder, lambda content: content["files"].pop(name))
    assert refusal(folder) == f"bundle.json does not list {name}"


@pytest.mark.parametrize("name", ["bundle.json", "golden.json", "model.onnx", "report.html"])
def test_symbolic_link_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """A file that is a link is refused even where it leads to the right bytes."""
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert refusal(folder).startswith(f"{name} cannot be read as a regular file (links are not followed)")


def test_linked_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    """A bundle folder that is a link itself is refused."""
    (tmp_path / "link").symlink_to(folder)
    assert "links are not followed" in refusal(tmp_path / "link")


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx"])
def test_named_pipe_is_refused_at_once(folder: Path, name: str) -> None:
    """A named pipe is refused instead of waited for."""
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refusal(folder) == f"{name} is not a regular file"


def test_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    """A folder called model.onnx is refused."""
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    assert refusal(folder) == "model.onnx is not a regular file"


@pytest.mark.parametrize(
    "name, limits",
    [
        ("model.onnx", Limits(model_bytes=100)),
        ("bundle.json", Limits(json_bytes=100)),
        ("report.html", Limits(other_bytes=10)),
    ],
)
def test_oversized_file_is_refused(folder: Path, name: str, limits: Limits) -> None:
    """A file above its limit is refused, and no more than the limit is read."""
    allowed = {"model.onnx": 100, "bundle.json": 100, "report.html": 10}[name]
    assert refusal(folder, limits) == f"{name} has more than the allowed {allowed} bytes"


def test_file_at_its_limit_is_read(folder: Path) -> None:
    """A limit is the most that is taken: a file of just that size is."""
    bundle.read(folder, Limits(model_bytes=(folder / "model.onnx").stat().st_size))


def test_damaged_weights_are_refused(folder: Path) -> None:
    """The weights file is never parsed here, and is held to its checksum all the same."""
    (folder / "weights.safetensors").write_bytes(b"weights")
    reseal(folder)
    bundle.read(folder)
    (folder / "weights.safetensors").write_bytes(b"weighty")
    assert refusal(folder).startswith("weights.safetensors has SHA-256 ")


@pytest.mark.parametrize("name", ["a\nb", "x" * 5000])
def test_refusals_stay_one_short_line(folder: Path, name: str) -> None:
    """Whatever names a hostile bundle holds, the sentence about it is one line of bounded length."""
    reseal(folder, lambda content: content["files"].update({name: {}}))
    assert len(refusal(folder)) < 500
    reseal(folder, lambda content: content["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    assert len(refusal(folder)) < 500
    reseal(folder, lambda content: content.update(format_version=name))
    assert len(refusal(folder)) < 500


@pytest.mark.parametrize("field", ["sha256", "bytes"])
def test_wrong_checksum_is_refused(folder: Path, field: str) -> None:
    """A size or checksum that is not the file's is refused with both values."""
    wrong = {"sha256": "a" * 64, "bytes": 5}[field]
    reseal(folder, lambda content: content["files"]["model.onnx"].update({field: wrong}))
    sentence = refusal(folder)
    assert sentence.startswith("model.onnx has ")
    assert sentence.endswith(f"bundle.json says {wrong}")


@pytest.mark.parametrize(
    "raw, reason",
    [
        (b"", "is not JSON: Expecting value at line 1, column 1"),
        (b"[]", "is not a bundle's"),
        (b'{"format": 1}', "is not a bundle's"),
        (b'{"format": "batchproof-bundle", "format_version": 6}', "has format_version 6; this service reads 1 to 5"),
        (b'{"format": "x", "format": "y"}', "repeats the key 'format'"),
        (b'{"format": NaN}', "holds NaN, which is not JSON"),
        (b'{"format": 1e999}', "holds 1e999, which is beyond float64"),
        (b"\xff\xfe", "is not UTF-8 at byte 0"),
        (b"[" * 100 + b"]" * 100, "is nested deeper than 32 levels"),
        (b"[" * 200_000, "is nested deeper than 32 levels"),
        (b'{"format": ' + b"9" * 5000 + b"}", "holds a whole number of 5000 digits"),
    ],
)
def test_manifest_that_is_not_one_is_refused(folder: Path, raw: bytes, reason: str) -> None:
    """Broken, hostile and foreign JSON gets one sentence that says which of them it is."""
    (folder / "bundle.json").write_bytes(raw)
    sentence = refusal(folder)
    assert sentence.startswith("bundle.json ")
    assert reason in sentence


@pytest.mark.parametrize(
    "edit, reason",
    [
        (lambda c: c.pop("metrics"), "bundle.json: metrics: is missing"),
        (lambda c: c.update(colour=1), "bundle.json: colour: is no known field"),
        (lambda c: c.update(version="1"), "bundle.json: version: must be a whole number"),
        (lambda c: c.update(version=0), "bundle.json: version: must be a whole number >= 1"),
        (lambda c: c.update(name="../x"), "bundle.json: name: must be a string matching regex "),
        (lambda c: c.update(task="binary"), "has 3 classes, which does not fit a binary task"),
        (lambda c: c["signature"].update(inputs=[]), "bundle.json: signature.inputs: "),
        (lambda c: c["signature"]["inputs"].append(c["signature"]["inputs"][0]), "feature names repeat"),
        (lambda c: c["signature"].update(classes=["1", 1, True]), "classes repeat, or differ only in their JSON type"),
        (lambda c: c["signature"]["inputs"][0].update(range=[2, 1]), "range is [least, greatest]"),
        (lambda c: c["signature"]["inputs"][0].update(categories=["a"]), "categories are given for categorical"),
        (lambda c: c["signature"]["inputs"][0].update(value_type="string"), "cannot have value_type 'string'"),
        (lambda c: c["signature"]["inputs"][0].update(missing=1), "signature.inputs.0.missing: "),
        (lambda c: c["signature"]["inputs"][1].update(categories=["a", "a"]), "categories repeat"),
        (lambda c: c["signature"]["inputs"][1].update(categories=None), "categories are given for categorical"),
        (lambda c: c["arithmetic"].update(kind="decimal"), "bundle.json: arithmetic.kind: "),
        (lambda c: c["files"]["model.onnx"].update(bytes=-1), "bundle.json: files.model.onnx.bytes: "),
    ],
)
def test_wrong_field_is_refused_by_name(folder: Path, edit: Callable[[Content], object], reason: str) -> None:
    """A missing, unknown, mistyped or contradictory field is refused with its path."""
    reseal(folder, edit)
    assert reason in refusal(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["signature"]["inputs"].pop(0),
        lambda c: c["signature"]["inputs"].pop(1),
        lambda c: c.update(task="regression", signature={**c["signature"], "classes": None}),
        lambda c: c["signature"].update(classes=["a", "b", "c", "d"]),
        lambda c: c["arithmetic"].update(kind="exact"),
    ],
)
def test_signature_that_is_not_the_graphs_is_refused(folder: Path, edit: Callable[[Content], object]) -> None:
    """A signature with other features, classes, task or arithmetic than the graph's ends is refused."""
    reseal(folder, edit)
    assert refusal(folder).startswith("model.onnx: the graph's ")


def test_no_folder_is_refused(tmp_path: Path) -> None:
    """A path that is no folder is refused."""
    assert refusal(tmp_path / "none").endswith("No such file or directory")


def test_crowded_folder_is_refused(folder: Path) -> None:
    """A folder of thousands of files is refused without listing them all."""
    for place in range(1001):
        (folder / f"f{place}").touch()
    with pytest.raises(BundleError, match="holds more than 1000 files"):
        bundle.read(folder)


def test_number_of_features_is_bounded() -> None:
    """A signature of more features than a service can start with is refused, one of as many is read."""
    feature = {"kind": "numeric", "value_type": "float", "missing": True}
    inputs = [{"name": str(place), **feature} for place in range(MAX_FEATURES + 1)]
    content = {"inputs": inputs[1:], "target": "t"}
    assert len(Signature.model_validate(content).inputs) == MAX_FEATURES
    with pytest.raises(Invalid, match="of length <= 50000"):
        Signature.model_validate({**content, "inputs": inputs})


@pytest.mark.parametrize("raw", [b"[" + b"[]," * 2_000_000 + b"[]]", b"[" + b"{}," * 3_000_000 + b"1]"])
def test_number_of_json_values_is_bounded(raw: bytes) -> None:
    """JSON that would take gigabytes once it is read is refused before."""
    with pytest.raises(ValueError, match="holds more than 2000000 values"):
        strict_json.loads(raw)


def test_large_file_is_held_once(folder: Path) -> None:
    """Reading a file takes its size in memory, not twice as much: the pieces are not joined."""
    (folder / "large").write_bytes(bytes(64 << 20))
    with opened(folder) as files:
        tracemalloc.start()
        assert len(files.read("large", 64 << 20)) == 64 << 20
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 70 << 20


def test_file_that_shrinks_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not as long as it was said to be while it is read is refused."""
    size = (folder / "golden.json").stat().st_size
    real = os.fstat

    def longer(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        values[stat.ST_SIZE] += values[stat.ST_SIZE] == size
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", longer)
    with pytest.raises(BundleError, match=r"golden\.json changed while it was read"):
        bundle.read(folder)


def test_file_that_grows_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that outgrows its limit while its checksum is computed is refused, and no more than the limit is read."""
    (folder / "notes").write_bytes(b"12345678")
    real = os.fstat

    def shorter(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        values[stat.ST_SIZE] = 4
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", shorter)
    with opened(folder) as files, pytest.raises(BundleError, match="notes changed while it was read"):
        files.digest("notes", 4)


def test_report_is_the_one_that_was_verified(folder: Path) -> None:
    """The report is read anew each time, and refused once it is another file than bundle.json lists, or was never there."""
    reseal(folder, lambda content: content["files"].pop("report.html", None))
    (folder / "report.html").unlink(missing_ok=True)
    with pytest.raises(BundleError, match=r"the bundle has no report\.html"):
        bundle.report(bundle.read(folder))
    page = b"<h1>Report</h1>"
    (folder / "report.html").write_bytes(page)
    entry = {"sha256": hashlib.sha256(page).hexdigest(), "bytes": len(page)}
    reseal(folder, lambda content: content["files"].update({"report.html": entry}))
    listed = bundle.read(folder)
    assert bundle.report(listed) == page
    (folder / "report.html").write_bytes(page.swapcase())
    with pytest.raises(BundleError, match=r"report\.html"):
        bundle.report(listed)
