"""A bundle gets its name in the cache when all of it is there and was checked, and is fetched once."""

import os
from pathlib import Path

import pytest

from batchproof.service.bundle.signing import SIGNATURE_FILE
from batchproof.service.errors import BundleError
from batchproof.service.stores import cache
from batchproof.service.stores.store import MissingError, StoreError
from tests.bundles import make_bundle, reseal


class FolderStore:
    """A store on this disk that counts what is fetched, and can fail at one file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fetched: list[str] = []
        self.fails_at = ""

    def folders(self) -> list[str]:
        """Return its only folder."""
        return [""]

    def fetch(self, folder: str, name: str, target: Path, max_bytes: int) -> None:
        """Copy a file, or fail."""
        self.fetched.append(name)
        if name == self.fails_at:
            raise StoreError("the line is dead")
        try:
            content = (self.root / folder / name).read_bytes()
        except FileNotFoundError as error:
            raise MissingError(f"{name} is missing") from error
        if len(content) > max_bytes:
            raise StoreError(f"{name} is too long")
        target.write_bytes(content)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(make_bundle(tmp_path / "there", "a", 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_cache_is_where_the_desktop_says() -> None:
    """XDG_CACHE_HOME moves the cache; without it, it is in the home."""
    assert cache.root({"XDG_CACHE_HOME": "/var/cache"}) == Path("/var/cache/batchproof/bundles")
    assert cache.root({"XDG_CACHE_HOME": ""}) == Path.home() / ".cache/batchproof/bundles"


def test_a_bundle_is_fetched_once(store: FolderStore, folder: Path) -> None:
    """All files come at first, and bundle.json alone to see that they are still the same."""
    first = cache.fetch(store, "", folder)
    kept = cache.keep(folder, first)
    wanted = {path.name: path.read_bytes() for path in store.root.iterdir()}
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == wanted
    assert first.bytes == sum(map(len, wanted.values()))

    store.fetched.clear()
    again = cache.fetch(store, "", folder)

    assert (again.is_new, again.folder) == (False, kept)
    assert store.fetched == ["bundle.json", SIGNATURE_FILE]  # a signature may have come
    assert names(folder) == {kept.name}


def test_a_signature_that_comes_later_is_fetched(store: FolderStore, folder: Path) -> None:
    """A bundle that is signed anew has another name: the signature belongs to what was checked."""
    unsigned = cache.keep(folder, cache.fetch(store, "", folder))
    (store.root / SIGNATURE_FILE).write_bytes(b"{}")

    signed = cache.fetch(store, "", folder)

    assert signed.is_new
    assert signed.name.startswith(f"{unsigned.name}-")
    assert (signed.folder / SIGNATURE_FILE).read_bytes() == b"{}"


@pytest.mark.parametrize("damage", ["other", "short", "gone"])
def test_a_damaged_copy_is_replaced(store: FolderStore, folder: Path, damage: str) -> None:
    """What is in the cache counts only if it is the same bundle.json, and no file is shorter than it says."""
    kept = cache.keep(folder, cache.fetch(store, "", folder))
    if damage == "other":
        reseal(kept, lambda content: content.update(version=7))
    elif damage == "short":
        os.truncate(kept / "model.onnx", 10)
    else:
        (kept / "golden.json").unlink()

    again = cache.keep(folder, cache.fetch(store, "", folder))

    assert again == kept
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        path.name: path.read_bytes() for path in store.root.iterdir()
    }


def test_the_faster_process_wins(store: FolderStore, folder: Path) -> None:
    """Two processes that fetch the same bundle leave one copy and nothing else."""
    first, second = cache.fetch(store, "", folder), cache.fetch(store, "", folder)

    kept = {cache.keep(folder, first), cache.keep(folder, second)}

    assert len(kept) == 1
    assert {path for path in names(folder) if not path.startswith(cache.PART)} == {first.name}


@pytest.mark.parametrize("file", ["bundle.json", "model.onnx", "golden.json"])
def test_a_dead_line_leaves_nothing(store: FolderStore, folder: Path, file: str) -> None:
    """Where a file cannot be fetched, no part of the bundle stays."""
    store.fails_at = file

    with pytest.raises(StoreError, match="the line is dead"):
        cache.fetch(store, "", folder)

    assert names(folder) == set()


def test_only_the_files_of_a_bundle_are_asked_for(store: FolderStore, folder: Path) -> None:
    """A bundle.json that lists other files, such as ../../x, is refused before one is fetched."""
    reseal(store.root, lambda content: content["files"].update({"../x": content["files"]["model.onnx"]}))

    with pytest.raises(BundleError, match=r"lists '\.\./x'"):
        cache.fetch(store, "", folder)

    assert store.fetched == ["bundle.json"]


def test_no_file_is_longer_than_bundle_json_says(store: FolderStore, folder: Path) -> None:
    """What a store sends beyond the length in bundle.json is not taken."""
    with (store.root / "model.onnx").open("ab") as file:
        file.write(b"more")

    with pytest.raises(StoreError, match=r"model\.onnx is too long"):
        cache.fetch(store, "", folder)


def test_unfinished_folders_are_cleared_after_a_day(folder: Path) -> None:
    """What a killed process left goes, and what another one is at work on stays."""
    for name in ("old", "new"):
        (folder / f"{cache.PART}{name}").mkdir(parents=True)
    os.utime(folder / f"{cache.PART}old", (0, 0))

    cache.clear_parts(folder)

    assert names(folder) == {f"{cache.PART}new"}


def test_what_may_not_be_kept_is_dropped(store: FolderStore, folder: Path) -> None:
    """A fetched bundle that was refused leaves nothing, and a kept one cannot be dropped."""
    cache.drop(cache.fetch(store, "", folder))
    assert names(folder) == set()

    cache.keep(folder, cache.fetch(store, "", folder))
    cache.drop(cache.fetch(store, "", folder))
    assert len(names(folder)) == 1


def test_a_cache_that_cannot_be_written_is_said(store: FolderStore, tmp_path: Path) -> None:
    """The sentence names the folder and the variable that moves it."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError, match=r"cannot be written .*XDG_CACHE_HOME"):
        cache.fetch(store, "", tmp_path / "file" / "cache")
