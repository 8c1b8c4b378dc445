"""Files of a bundle that are read again after its check, and folders on systems that open no file by its folder's descriptor."""

import json
import os
from pathlib import Path

import pytest

from batchproof.service.bundle import reader
from batchproof.service.bundle.documents.card import model_card
from batchproof.service.bundle.files import safe_folder
from batchproof.service.errors import BundleError
from tests.bundles import make_bundle


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "golden.json"])
def test_a_file_is_the_one_that_was_verified(tmp_path: Path, name: str) -> None:
    """Each file is given as it was verified, and refused once a byte of it has changed."""
    folder = make_bundle(tmp_path)
    bundle = reader.read(folder)
    raw = (folder / name).read_bytes()
    assert reader.file(bundle, name) == raw

    (folder / name).write_bytes(raw[:-2] + bytes([raw[-2] ^ 1]) + raw[-1:])
    with pytest.raises(BundleError):
        reader.file(bundle, name)


def test_the_signature_is_the_file_beside_the_bundle(tmp_path: Path) -> None:
    """A bundle has none until one is written beside it."""
    folder = make_bundle(tmp_path)
    bundle = reader.read(folder)
    assert reader.signature(bundle) is None
    (folder / "model.sig").write_bytes(b"{}")
    assert reader.signature(bundle) == b"{}"


def test_folders_are_read_without_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: files are read by their path; links, missing files and linked folders are refused as elsewhere."""
    folder = make_bundle(tmp_path)
    wanted = reader.read(folder)
    monkeypatch.setattr(os, "supports_dir_fd", frozenset())
    assert reader.read(folder).manifest == wanted.manifest
    (folder / "link").symlink_to(folder / "golden.json")
    with safe_folder.opened(folder) as files:
        with pytest.raises(BundleError, match="not a regular file"):
            files.read("link", 1 << 20)
        with pytest.raises(BundleError, match="missing"):
            files.read("none", 1 << 20)
    (tmp_path / "other").symlink_to(folder)
    with pytest.raises(BundleError, match="links are not followed"), safe_folder.opened(tmp_path / "other"):
        pass


def test_a_card_of_a_bundle_that_says_little(tmp_path: Path) -> None:
    """A bundle without metrics, and features without ranges, have a card that says so or leaves it open."""
    manifest = reader.read(make_bundle(tmp_path)).manifest
    inputs = [feature.model_copy(update={"range": None}) for feature in manifest.signature.inputs]
    signature = manifest.signature.model_copy(update={"inputs": tuple(inputs)})
    card = model_card(manifest.model_copy(update={"metrics": {}, "signature": signature}))
    assert "The bundle states none." in card
    assert json.dumps(manifest.name).strip('"') in card
