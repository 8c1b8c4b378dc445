"""Bundles at an address: what is wanted is fetched once, checked, and served; nothing at the address takes a model down."""

import functools
import shutil
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from batchproof.service.bundle.signing.trust import TrustPolicy
from batchproof.service.configuration.address import Address
from batchproof.service.errors import BundleError
from batchproof.service.inference.catalogue import registry, remote, roots
from batchproof.service.inference.catalogue.plan import Plan
from batchproof.service.inference.catalogue.planner import Planner, Wish
from batchproof.service.inference.catalogue.selection import Selection
from batchproof.service.inference.catalogue.shelf import Shelf
from batchproof.service.runtime.child_process import Bounds
from batchproof.service.stores import cache
from batchproof.service.stores.store import MissingError, StoreError
from tests.bundles import make_bundle, reseal

BUCKET = Address("s3", "bucket/models")


class Server(ThreadingHTTPServer):
    """A web server for the folder `root`, which counts what is asked for."""

    def __init__(self, root: Path) -> None:
        """Serve on a free port."""
        self.root, self.paths = root, list[str]()
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))

    @property
    def address(self) -> Address:
        """The address of the bundle."""
        return Address("http", f"127.0.0.1:{self.server_address[1]}/a/1")


class Handler(SimpleHTTPRequestHandler):
    """Sends files, and notes which."""

    def log_request(self, *_: object) -> None:
        """Count the path."""
        self.server.paths.append(self.path.rpartition("/")[2])  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is fetched in a folder of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_refused", {})
    monkeypatch.setattr(remote, "_checked", {})
    return cache.folder("bundles")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("models"), "a", 1)


@pytest.fixture
def server(sound: Path, tmp_path: Path) -> Iterator[Server]:
    shutil.copytree(sound, tmp_path / "there" / "a" / "1")
    with Server(tmp_path / "there") as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


def test_an_address_is_as_good_as_a_folder(server: Server, kept: Path) -> None:
    """The bundle is fetched into the cache under its seal, read from there, and a second look fetches bundle.json only."""
    folder = roots.newest(server.address)
    assert folder == kept / registry.read(*roots.scan(server.address)[0]).manifest.sha256
    server.paths.clear()

    assert roots.newest(server.address) == folder
    assert sorted(server.paths) == ["bundle.json", "model.sig"]


def test_a_version_that_changed_at_the_address_is_another_bundle(server: Server) -> None:
    """A poll that finds another seal plans the new bundle, and the old one stays in its own folder."""
    planner, wish = Planner(server.address, Shelf()), Wish(Selection(), 0.1)
    first = planner.plan(wish, Plan(0, ()))
    assert planner.plan(wish, first) == first
    reseal(server.root / "a" / "1", lambda content: content.update(version=2))

    second = planner.plan(wish, first)

    assert [entry.version for entry in (*first.entries, *second.entries)] == [1, 2]
    assert Path(first.entries[0].folder).is_dir()


@pytest.mark.parametrize("damage", ["model.onnx", "bundle.json"])
def test_a_damaged_bundle_has_no_name(server: Server, kept: Path, damage: str) -> None:
    """What does not have its checksum is refused with the address and leaves nothing; what is served stays."""
    planner, wish = Planner(server.address, Shelf()), Wish(Selection(), 0.1)
    served = planner.plan(wish, Plan(0, ()))
    reseal(server.root / "a" / "1", lambda content: content.update(version=2))
    file = server.root / "a" / "1" / damage
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])

    with pytest.raises(BundleError, match=f"can be served: .*{damage}") as refused:
        planner.plan(wish, served)

    assert cache.PART not in str(refused.value)
    server.paths.clear()
    with pytest.raises(BundleError, match=damage):
        roots.newest(server.address)
    assert set(server.paths) <= {"bundle.json", "model.sig"}  # what was refused is not fetched again
    assert [path.name for path in kept.iterdir()] == [Path(served.entries[0].folder).name]


def test_an_unsigned_bundle_has_no_name(server: Server, kept: Path) -> None:
    """Where a signature is required, a bundle without one is refused before it is in the cache."""
    folders, _ = roots.scan(server.address, trust=TrustPolicy("require"))

    assert "is not signed" in folders[0].fault
    assert list(kept.iterdir()) == []
    with pytest.raises(BundleError, match="is not signed"):
        registry.read(folders[0])


def test_a_store_that_fails_changes_nothing(server: Server) -> None:
    """While nobody answers at the address, a look is refused as a whole and no model is unloaded."""
    planner, wish = Planner(server.address, Shelf()), Wish(Selection(), 0.1)
    served = planner.plan(wish, Plan(0, ()))
    server.shutdown()
    server.server_close()

    with pytest.raises(BundleError, match=r"^http://127\.0\.0\.1:\d+/a/1/bundle\.json cannot be read"):
        planner.plan(wish, served)


def test_an_address_without_a_bundle_is_a_sentence(server: Server) -> None:
    """What is missing is named by its address."""
    with pytest.raises(BundleError, match=r"^http://127\.0\.0\.1:\d+/a/2/bundle\.json was answered with 404"):
        roots.newest(Address("http", server.address.rest.replace("/a/1", "/a/2")))


def test_fetching_ends_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch that takes longer than it may is ended and refused."""
    monkeypatch.setattr(remote, "BOUNDS", Bounds(seconds=0.0))

    with pytest.raises(BundleError, match=r"^fetching bundles from http://.* took more than 0 s"):
        roots.newest(server.address)


@pytest.mark.parametrize(
    ("folders", "listed", "refused"),
    [
        (["a/1", "a/10", "a/9", "b/2"], ["a 10", "a 9", "a 1", "b 2"], []),
        (["1", "2"], ["models 2", "models 1"], []),
        ([""], ["models None"], []),
        (["a/1", "a/v2", "b/01"], ["a 1"], ["a/v2: a version", "b/01: a version"]),
        (["a/1", "old/a/1"], ["a 1"], ["old/a/1 is too deep"]),
    ],
)
def test_folders_are_named_as_on_a_disk(folders: list[str], listed: list[str], refused: list[str]) -> None:
    """NAME/VERSION, the versions of one model, or one bundle; the newest first, and what is none of it is refused."""
    found, refusals = remote.named(BUCKET, folders)

    assert [f"{folder.name} {folder.version}" for folder in found] == listed
    assert [
        refusal.message.startswith(f"{BUCKET}/{says}") for refusal, says in zip(refusals, refused, strict=True)
    ] == [True] * len(refused)


class Shelves:
    """A store on this disk in which single files are missing, or cannot be read."""

    def __init__(self, root: Path, missing: str = "", dead: str = "") -> None:
        self.root, self.missing, self.dead = root, missing, dead
        self.fetched: set[str] = set()

    def folders(self) -> list[str]:
        """Return every folder with a bundle.json."""
        return sorted(path.parent.relative_to(self.root).as_posix() for path in self.root.rglob("bundle.json"))

    def fetch(self, folder: str, name: str, target: Path, max_bytes: int) -> None:
        """Copy a file, or fail."""
        self.fetched.add(folder)
        if f"{folder}/{name}" == self.dead:
            raise StoreError("the line is dead")
        if f"{folder}/{name}" == self.missing or not (self.root / folder / name).exists():
            raise MissingError(f"{folder}/{name} is missing")
        target.write_bytes((self.root / folder / name).read_bytes()[:max_bytes])


@pytest.fixture
def shelves(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelves:
    """Let s3://bucket/models be a folder with versions 1 to 3 of `a`, and one of `b`."""
    for name, version in (("a", 1), ("a", 2), ("a", 3), ("b", 1)):
        folder = Path(shutil.copytree(sound, tmp_path / "there" / name / str(version)))
        reseal(folder, functools.partial(dict.update, name=name, version=version))
    store = Shelves(tmp_path / "there")
    monkeypatch.setattr(remote, "open_store", lambda _: store)
    monkeypatch.setattr(remote.child_process, "run", lambda work, *arguments, bounds: work(*arguments))
    return store


@pytest.mark.parametrize(
    ("selection", "fetched"),
    [
        (Selection(), {"a/3", "b/1"}),
        (Selection("newest:2"), {"a/3", "a/2", "b/1"}),
        (Selection("all"), {"a/3", "a/2", "a/1", "b/1"}),
        (Selection(pins={"a": "2"}), {"a/2", "b/1"}),
        (Selection(labels={"a": {"stable": 1}}), {"a/3", "a/1", "b/1"}),
    ],
)
def test_only_what_is_wanted_is_fetched(shelves: Shelves, selection: Selection, fetched: set[str]) -> None:
    """Policies, pins and labels say what is fetched, and the registry serves it as from a folder."""
    folders, refusals = roots.scan(BUCKET, selection)

    assert shelves.fetched == fetched
    assert {f"{folder.name}/{folder.version}" for folder in folders} == fetched
    assert refusals == []


def test_several_models_need_a_name(shelves: Shelves) -> None:
    """A command for one bundle names the addresses to choose from."""
    with pytest.raises(BundleError, match="s3://bucket/models/a, s3://bucket/models/b"):
        roots.newest(BUCKET)


def test_a_version_that_is_not_whole_gives_way(shelves: Shelves) -> None:
    """A version that is still being uploaded has its fault, and the next older one is fetched in its place."""
    shelves.missing = "a/3/model.onnx"

    folders, _ = roots.scan(BUCKET, Selection())

    assert [(folder.version, folder.fault) for folder in folders if folder.name == "a"] == [
        (3, "a/3/model.onnx is missing"),
        (2, ""),
    ]


@pytest.mark.parametrize("is_noticed", [True, False], ids=["in another process", "while it is served"])
def test_a_copy_that_is_damaged_in_place_is_fetched_again(server: Server, *, is_noticed: bool) -> None:
    """A byte that changes in the cache is found by the checksum, and the bundle comes from the address once more."""
    folder = roots.newest(server.address)
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    if is_noticed:
        remote._checked.clear()

    assert roots.newest(server.address) == folder
    assert registry.read(roots.scan(server.address)[0][0]).manifest.version == 1


def test_a_damaged_copy_that_cannot_be_taken_out_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cache does not let go of a damaged copy, that is the refusal, after one more look."""
    folder = roots.newest(server.address)
    (folder / "model.onnx").write_bytes(bytes((folder / "model.onnx").stat().st_size))
    monkeypatch.setattr(cache, "discard", lambda _: None)

    with pytest.raises(BundleError, match="the copy in the cache is damaged"):
        roots.newest(server.address)


def test_half_a_view_counts_for_nothing(shelves: Shelves) -> None:
    """Where the store fails at one file, nothing is decided: an older version would take the place of a newer one."""
    shelves.dead = "a/3/golden.json"

    with pytest.raises(BundleError, match="the line is dead"):
        roots.scan(BUCKET, Selection("all"))
    assert [path.name[:6] for path in cache.folder("bundles").iterdir()] == []
    shelves.dead = "a/2/golden.json"
    with pytest.raises(BundleError, match="the line is dead"):
        roots.scan(BUCKET, Selection("all"))
    assert len(list(cache.folder("bundles").iterdir())) == 1  # what was whole stays, and is not fetched again


def test_an_empty_address_is_a_sentence(shelves: Shelves, tmp_path: Path) -> None:
    """An address without a bundle.json is refused, for commands and for the service."""
    (tmp_path / "there").rename(tmp_path / "gone")
    (tmp_path / "there").mkdir()

    with pytest.raises(BundleError, match=r"^s3://bucket/models holds no bundle: no bundle\.json was found"):
        roots.newest(BUCKET)


def test_a_folder_without_a_version_is_refused_by_name(shelves: Shelves, tmp_path: Path) -> None:
    """What is at the address and is no version is among the refusals."""
    (tmp_path / "there" / "a").rename(tmp_path / "there" / "1")
    shutil.rmtree(tmp_path / "there" / "b")
    for version in ("1", "2", "3"):
        (tmp_path / "there" / "1" / version).rename(tmp_path / "there" / "1" / f"v{version}")

    with pytest.raises(BundleError, match="a version is a positive whole number"):
        roots.newest(BUCKET)


def test_a_served_version_that_is_overwritten_badly_stays(shelves: Shelves) -> None:
    """Where the served version is not whole at the address any more, it is served on; an older one does not replace it."""
    planner, wish = Planner(BUCKET, Shelf()), Wish(Selection(), 0.1)
    served = planner.plan(wish, Plan(0, ()))
    reseal(shelves.root / "a" / "3", lambda content: content.update(metrics={}))
    shelves.missing = "a/3/model.onnx"

    plan = planner.plan(wish, served)

    assert ("a", 3) in [entry[:2] for entry in plan.entries]
    assert plan.defaults["a"] == 3
    assert [refusal.message for refusal in plan.refusals] == ["a/3/model.onnx is missing"]
