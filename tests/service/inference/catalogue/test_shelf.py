"""Each bundle is read once for each state of its files, and what is served stays in memory whatever its folder holds."""

from pathlib import Path

import pytest

from batchproof.service.inference.catalogue import shelf as shelves
from batchproof.service.inference.catalogue.repository import BundleFolder
from batchproof.service.inference.catalogue.shelf import Shelf, stamp_of
from tests.bundles import make_bundle, reseal


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    return BundleFolder("flowers", 1, make_bundle(tmp_path))


def test_a_folder_is_read_once_for_each_state(folder: BundleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read again until a file changes, in its content, its time or its name; a fault is remembered as well."""
    shelf = Shelf()
    first = shelf.look(folder)
    assert first.entry is not None
    assert shelf.bundle(first.entry) is first.bundle
    reads = []
    real = shelves.read
    monkeypatch.setattr(shelves, "read", lambda *given: reads.append(given) or real(*given))
    assert shelf.look(folder) is first
    (folder.folder / "extra").write_bytes(b"")
    faulty = shelf.look(folder)
    assert (faulty.bundle, faulty.entry, len(reads)) == (None, None, 1)
    assert "extra" in faulty.fault
    assert shelf.look(folder) is faulty
    (folder.folder / "extra").unlink()
    assert shelf.look(folder).entry == first.entry
    assert len(reads) == 2


def test_what_was_refused_is_passed_over_until_it_changes(folder: BundleFolder) -> None:
    """A bundle that the service refused keeps its reason until its files change or faults are forgotten."""
    shelf = Shelf()
    shelf.refuse(folder.folder, "never seen")
    entry = shelf.look(folder).entry
    assert entry is not None
    shelf.refuse(folder.folder, "no memory")
    assert (shelf.look(folder).fault, shelf.bundle(entry)) == ("no memory", None)
    shelf.forget_faults()
    assert (shelf.look(folder).fault, shelf.bundle(entry) is not None) == ("", True)


def test_what_is_served_is_held(folder: BundleFolder) -> None:
    """The bundle of a served entry stays though its folder holds another one by now; every other one is let go."""
    shelf = Shelf()
    held = shelf.look(folder)
    assert held.entry is not None
    assert held.bundle is not None
    shelf.keep([held.entry])
    reseal(folder.folder, lambda content: content.update(provenance={"note": "another"}))
    other = shelf.look(folder).entry
    assert other is not None
    assert other != held.entry
    assert shelf.bundle(held.entry) is held.bundle
    shelf.keep([other])
    assert shelf.bundle(held.entry) is None
    assert shelf.bundle(other) is not None
    shelf.keep([])
    assert shelf.bundle(other) is None
    shelf.hold(held.entry, held.bundle)
    assert shelf.bundle(held.entry) is held.bundle


def test_a_folder_that_cannot_be_listed_has_an_empty_stamp(tmp_path: Path) -> None:
    """A folder that went away has no stamp, and so is looked at again when it is back."""
    assert stamp_of(tmp_path / "gone") == ()
