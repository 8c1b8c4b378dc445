"""docs/bundle.md is enough to use a bundle: its own code, and nothing of the service, reads and answers."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.manifest import FileEntry, Manifest
from batchproof.service.bundle.signature import Feature, Signature
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from tests.bundles import make_bundle, random_rows

PAGE = (Path(__file__).parents[1] / "docs" / "bundle.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader() -> dict[str, Any]:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert "batchproof" not in code
    names: dict[str, Any] = {}
    exec(compile(code, "docs/bundle.md", "exec"), names)
    return names


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("arithmetic", ["float32", "exact"])
def test_page_alone_answers_as_the_service_does(
    tmp_path: Path, reader: dict[str, Any], task: str, arithmetic: str
) -> None:
    """The page's code reproduces the golden answers and gives the service's bits and labels for other rows."""
    folder = make_bundle(tmp_path, task=task, arithmetic=arithmetic)
    manifest, session = reader["load"](folder)
    assert reader["reproduces"](folder, manifest, session)
    loaded = model.load(bundle.read(folder), EngineOptions(device="cpu"), run_rows=64)
    rows = random_rows(loaded.manifest.signature, 50, seed=9)
    (wanted,) = loaded.runner.run([loaded.encoder.encode_rows(rows).arrays])
    found = reader["predict"](manifest, session, rows)
    assert {name: array.tobytes() for name, array in found.items()} == {k: v.tobytes() for k, v in wanted.items()}
    if task != "regression":
        assert reader["labels"](manifest, found) == [one["label"] for one in loaded.decoder.decode(wanted)]


def test_page_alone_sees_damage(tmp_path: Path, reader: dict[str, Any]) -> None:
    """The page's seal and checksum checks fail on a changed manifest and on a changed file."""
    folder = make_bundle(tmp_path)
    raw = (folder / "bundle.json").read_bytes()
    (folder / "bundle.json").write_bytes(raw.replace(b"0.25", b"0.15"))
    with pytest.raises(AssertionError):
        reader["load"](folder)
    (folder / "bundle.json").write_bytes(raw)
    (folder / "report.html").write_text("x")
    with pytest.raises(AssertionError):
        reader["load"](folder)


def test_page_alone_sees_other_answers(tmp_path: Path, reader: dict[str, Any]) -> None:
    """The page's golden check fails where the graph gives something else."""
    folder = make_bundle(tmp_path)
    manifest, session = reader["load"](folder)
    golden = json.loads((folder / "golden.json").read_bytes())
    stored = np.frombuffer(bytes.fromhex(golden["outputs"]["scores"]["hex"]), "<f4") + np.float32(0.001)
    golden["outputs"]["scores"]["hex"] = stored.tobytes().hex()
    (folder / "golden.json").write_text(json.dumps(golden))
    assert not reader["reproduces"](folder, manifest, session)


def test_shipped_bundles_can_be_used_by_the_page(reader: dict[str, Any]) -> None:
    """Every bundle in models/ reproduces its golden answers through the page's code."""
    for found in sorted((Path(__file__).parents[1] / "models").glob("*/*/bundle.json")):
        manifest, session = reader["load"](found.parent)
        assert reader["reproduces"](found.parent, manifest, session)


@pytest.mark.parametrize("part", [Manifest, Signature, Feature, FileEntry])
def test_page_names_every_field(part: type[Manifest | Signature | Feature | FileEntry]) -> None:
    """A field that the reader demands is on the page."""
    for field in part.__struct_fields__:
        assert re.search(rf"[`.\"]{field}[`\"]", PAGE), field


def test_page_names_every_output() -> None:
    """Each output that a bundle may have is on the page."""
    for name in ("probabilities", "scores", "value", "saturated"):
        assert f"`{name}`" in PAGE
