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


def fetched(store: FolderStore, folder: Path, refused: dict[str, str] | None = None) -> Path:
    """Fetch a bundle, and keep it; return its folder."""
    with cache.new_part(folder) as part:
        return cache.keep(folder, cache.fetch(store, "", folder, part / "0", refused or {}))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_cache_is_where_the_desktop_says() -> None:
    """XDG_CACHE_HOME moves the cache; without it, it is in the home."""
    assert cache.folder("bundles", {"XDG_CACHE_HOME": "/var/cache"}) == Path("/var/cache/batchproof/bundles")
    assert cache.folder("bundles", {"XDG_CACHE_HOME": ""}) == Path.home() / ".cache/batchproof/bundles"


def test_a_bundle_is_fetched_once(store: FolderStore, folder: Path) -> None:
    """All files come at first, and bundle.json alone to see that they are still the same."""
    kept = fetched(store, folder)
    wanted = {path.name: path.read_bytes() for path in store.root.iterdir()}
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == wanted

    store.fetched.clear()
    with cache.new_part(folder) as part:
        again = cache.fetch(store, "", folder, part / "0", {})

    assert (again.is_new, again.folder) == (False, kept)
    assert store.fetched == ["bundle.json", SIGNATURE_FILE]  # a signature may have come
    assert names(folder) == {kept.name}


def test_a_signature_that_comes_later_is_fetched(store: FolderStore, folder: Path) -> None:
    """A bundle that is signed anew has another name: the signature belongs to what was checked."""
    unsigned = fetched(store, folder)
    (store.root / SIGNATURE_FILE).write_bytes(b"{}")

    signed = fetched(store, folder)

    assert signed.name.startswith(f"{unsigned.name}-")
    assert (signed / SIGNATURE_FILE).read_bytes() == b"{}"


@pytest.mark.parametrize("damage", ["other", "short", "gone"])
def test_a_damaged_copy_is_replaced(store: FolderStore, folder: Path, damage: str) -> None:
    """What is in the cache counts only if it is the same bundle.json, and no file is shorter than it says."""
    kept = fetched(store, folder)
    if damage == "other":
        reseal(kept, lambda content: content.update(version=7))
    elif damage == "short":
        os.truncate(kept / "model.onnx", 10)
    else:
        (kept / "golden.json").unlink()

    assert fetched(store, folder) == kept
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        path.name: path.read_bytes() for path in store.root.iterdir()
    }
    assert names(folder) == {kept.name}


def test_the_faster_process_wins(store: FolderStore, folder: Path) -> None:
    """Two processes that fetch the same bundle leave one copy and nothing else."""
    with cache.new_part(folder) as one, cache.new_part(folder) as other:
        first, second = (cache.fetch(store, "", folder, part / "0", {}) for part in (one, other))
        kept = {cache.keep(folder, first), cache.keep(folder, second)}

    assert names(folder) == {path.name for path in kept} == {first.name}


def test_what_was_refused_is_not_fetched_again(store: FolderStore, folder: Path) -> None:
    """A bundle with the name of one that was refused is refused for the same reason, after its bundle.json."""
    name = fetched(store, folder).name
    store.fetched.clear()

    with pytest.raises(BundleError, match=r"^it is not sound$"):
        fetched(store, folder, {name: "it is not sound"})

    assert store.fetched == ["bundle.json", SIGNATURE_FILE]


@pytest.mark.parametrize("file", ["bundle.json", "model.onnx", "golden.json"])
def test_a_dead_line_leaves_nothing(store: FolderStore, folder: Path, file: str) -> None:
    """Where a file cannot be fetched, no part of the bundle stays."""
    store.fails_at = file

    with pytest.raises(StoreError, match="the line is dead"):
        fetched(store, folder)

    assert names(folder) == set()


def test_only_the_files_of_a_bundle_are_asked_for(store: FolderStore, folder: Path) -> None:
    """A bundle.json that lists other files, such as ../../x, is refused before one is fetched."""
    reseal(store.root, lambda content: content["files"].update({"../x": content["files"]["model.onnx"]}))

    with pytest.raises(BundleError, match=r"lists '\.\./x'"):
        fetched(store, folder)

    assert store.fetched == ["bundle.json"]


def test_no_file_is_longer_than_bundle_json_says(store: FolderStore, folder: Path) -> None:
    """What a store sends beyond the length in bundle.json is not taken."""
    with (store.root / "model.onnx").open("ab") as file:
        file.write(b"more")

    with pytest.raises(StoreError, match=r"model\.onnx is too long"):
        fetched(store, folder)


def test_unfinished_folders_are_cleared_after_a_day(folder: Path) -> None:
    """What a killed process left goes, and what another one is at work on stays."""
    for name in ("old", "new"):
        (folder / f"{cache.PART}{name}").mkdir(parents=True)
    os.utime(folder / f"{cache.PART}old", (0, 0))

    cache.clear_parts(folder)

    assert names(folder) == {f"{cache.PART}new"}


def test_a_cache_that_cannot_be_written_is_said(store: FolderStore, tmp_path: Path) -> None:
    """The sentence names the folder and the variable that moves it."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError, match=r"cannot be written .*XDG_CACHE_HOME"):
        fetched(store, tmp_path / "file" / "cache")
