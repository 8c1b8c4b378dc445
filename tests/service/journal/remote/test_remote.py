"""The journal in an object store: what is uploaded, in which order, what happens without the store, and what is read back."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyarrow import fs

from batchproof.service.configuration import settings
from batchproof.service.configuration.address import Address
from batchproof.service.errors import JournalError, SettingError
from batchproof.service.journal import reader
from batchproof.service.journal.remote import downloading, uploading
from batchproof.service.journal.remote.downloading import local_journal
from batchproof.service.journal.remote.names import place_of
from batchproof.service.journal.remote.uploading import Uploader, is_closed
from batchproof.service.journal.segment import sums_path
from batchproof.service.journal.writing.chain import Counts, Options
from batchproof.service.journal.writing.writer import Writer
from batchproof.service.stores.object_path import ObjectPath
from tests.service.journal.test_journal import group, source, written

ADDRESS = Address("s3", "bucket/journal")
WAIT_S = 60.0


class Store:
    """A folder as a store that can be away, and remembers what was uploaded."""

    def __init__(self, folder: Path) -> None:
        (folder / "bucket" / "journal").mkdir(parents=True)
        self.folder = folder / "bucket" / "journal"
        self.files = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        self.is_away = False
        self.refused = ""  # beginning of the names that it does not take
        self.uploads: list[str] = []

    def open(self, address: Address = ADDRESS) -> ObjectPath:
        """Return the folder of an address."""
        return ObjectPath(address, self.files)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Let addresses mean a folder of this test."""
    made = Store(tmp_path / "store")
    upload = ObjectPath.upload

    def recorded(self: ObjectPath, content: Path) -> None:
        if made.is_away or (made.refused and content.name.startswith(made.refused)):
            raise OSError("the store is away")
        upload(self, content)
        made.uploads.append(content.name)

    monkeypatch.setattr(ObjectPath, "upload", recorded)
    monkeypatch.setattr("batchproof.service.stores.object_path.object_path", made.open)
    monkeypatch.setattr(downloading, "object_path", made.open)
    monkeypatch.setattr(uploading, "FIRST_RETRY_S", 0.01)
    return made


@contextmanager
def uploader(folder: Path, store: Store) -> Iterator[tuple[Uploader, Counts]]:
    """Upload a folder until the block ends."""
    counts = Counts()
    one = Uploader(folder, str(ADDRESS), store.open, counts)
    try:
        yield one, counts
    finally:
        one.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def until(what: str, condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.01)


def test_finished_segments_are_uploaded_in_order(tmp_path: Path, store: Store) -> None:
    """Each segment goes before its digests and before the next of its chain, and only once."""
    paths = written(tmp_path / "journal", *([group(seed=seed)] for seed in range(3)), segment_bytes=1)
    for _ in range(2):
        with uploader(tmp_path / "journal", store):
            pass
    assert store.uploads == [name for path in sorted(paths) for name in (path.name, sums_path(path).name)]
    assert all(
        (store.folder / name).read_bytes() == (tmp_path / "journal" / name).read_bytes() for name in store.uploads
    )


def test_a_writer_uploads_while_it_writes(tmp_path: Path, store: Store) -> None:
    """A segment is uploaded soon after it was finished; one that is being written is not."""
    writer = Writer(Options(tmp_path, segment_bytes=1, upload=str(ADDRESS)))
    assert writer.write(source(), [group()]) is None
    assert [is_closed(path) for path in tmp_path.glob("*.arrows")] == [False]
    writer.tidy()
    assert writer.write(source(), [group(seed=1)]) is None
    until("not uploaded", lambda: writer.counts.uploads == 1)
    assert len(names(store.folder)) == 2
    writer.close()
    writer.end_uploads()
    assert (writer.counts.uploads, writer.counts.upload_failures) == (2, 0)
    with local_journal(ADDRESS) as folder:
        segments, problems = reader.check(folder)
        assert (len(segments), problems) == (2, [])
    assert not folder.exists()


def test_a_store_that_is_away_is_counted_and_tried_again(tmp_path: Path, store: Store) -> None:
    """Nothing is uploaded or removed while the store is away, failures are counted, and later all goes there."""
    paths = written(tmp_path / "journal", *([group(seed=seed)] for seed in range(3)), segment_bytes=1)
    store.is_away = True
    with uploader(tmp_path / "journal", store) as (one, counts):
        until("not counted", lambda: counts.upload_failures >= 3)
        assert names(store.folder) == []
        assert not one.is_uploaded(paths[0].name)
        store.is_away = False
        until("not uploaded", lambda: counts.uploads == 3)
        assert all(one.is_uploaded(path.name) for path in paths)


def test_a_chain_that_fails_has_no_gap_and_stops_no_other(tmp_path: Path, store: Store) -> None:
    """After a failure no later segment of the chain is uploaded, but those of other chains are."""
    ours, others = (
        written(
            tmp_path / "journal", *([group(seed=seed)] for seed in range(2)), about=source(model=model), segment_bytes=1
        )
        for model in ("a", "b")
    )
    store.refused = "a-"
    with uploader(tmp_path / "journal", store) as (_, counts):
        until("not uploaded", lambda: counts.uploads == 2 and counts.upload_failures)
    assert {name[0] for name in names(store.folder)} == {"b"}
    assert len(ours) + len(others) >= 4


def test_a_segment_of_a_killed_process_is_uploaded(tmp_path: Path, store: Store) -> None:
    """What no process writes any more is uploaded as it is; what was never begun is not."""
    (path,) = written(tmp_path / "journal", [group()])
    lines = sums_path(path).read_bytes().splitlines(keepends=True)
    sums_path(path).write_bytes(b"".join(lines[:-1]))
    unbegun = path.with_name("flowers-1-00000000-000000.arrows")
    unbegun.touch()
    sums_path(unbegun).touch()
    with uploader(tmp_path / "journal", store):
        pass
    assert names(store.folder) == [path.name, sums_path(path).name]


def test_a_part_that_is_there_in_another_size_is_uploaded_again(tmp_path: Path, store: Store) -> None:
    """A store compares by name and size."""
    (path,) = written(tmp_path / "journal", [group()])
    (store.folder / path.name).write_bytes(b"half")
    with uploader(tmp_path / "journal", store):
        pass
    assert (store.folder / path.name).read_bytes() == path.read_bytes()


def test_old_segments_stay_until_they_are_uploaded(tmp_path: Path, store: Store) -> None:
    """`keep_s` removes from the folder only what the store has."""
    (path,) = written(tmp_path / "journal", [group()])
    os.utime(path, (time.time() - 100, time.time() - 100))
    store.is_away = True
    writer = Writer(Options(tmp_path / "journal", keep_s=50.0, upload=str(ADDRESS)))
    until("not tried", lambda: writer.counts.upload_failures)
    writer.tidy()
    assert path.exists()
    store.is_away = False
    until("not uploaded", lambda: writer.counts.uploads == 1)
    writer._look_s = 0.0
    writer.tidy()
    assert not path.exists()
    writer.end_uploads()
    assert (store.folder / path.name).exists()


def test_only_what_may_have_the_rows_is_copied(tmp_path: Path, store: Store) -> None:
    """Segments of other models and those uploaded long before `since` stay in the store; a chain's end is copied whole."""
    for model in ("a", "a-b"):
        written(store.folder, *([group(seed=seed)] for seed in range(3)), about=source(model=model), segment_bytes=1)
    first, *rest = sorted(store.folder.glob("a-1-*.arrows"))
    old_s = time.time() - 7 * 86400
    os.utime(sums_path(first), (old_s, old_s))
    with local_journal(ADDRESS, datetime.now(UTC) - timedelta(days=1), "a") as folder:
        assert [path.name for path in reader_paths(folder)] == [path.name for path in rest]
        assert reader.check(folder)[1] == []
    with local_journal(ADDRESS, model="a-b") as folder:
        assert len(reader_paths(folder)) == 3
    with pytest.raises(JournalError, match="holds no segment with such rows"), local_journal(ADDRESS, model="c"):
        pass


def reader_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.arrows"))


def test_an_upload_under_way_is_no_problem_but_a_missing_segment_is(tmp_path: Path, store: Store) -> None:
    """A segment without digests is not there yet; digests without their segment are named, and so is a changed byte."""
    first, second, third = written(store.folder, *([group(seed=seed)] for seed in range(3)), segment_bytes=1)
    sums = sums_path(third).read_bytes()
    sums_path(third).unlink()
    with local_journal(ADDRESS) as folder:
        assert (len(reader_paths(folder)), reader.check(folder)[1]) == (2, [])
    sums_path(third).write_bytes(sums)
    second.unlink()
    with local_journal(ADDRESS) as folder:
        assert {problem.segment for problem in reader.check(folder)[1]} == {second.name, third.name}
    first.write_bytes(first.read_bytes()[:-9] + b"x" + first.read_bytes()[-8:])
    with local_journal(ADDRESS) as folder:
        assert first.name in {problem.segment for problem in reader.check(folder)[1]}


def test_an_address_without_a_journal_is_one_sentence(store: Store) -> None:
    """It names the address, and not the temporary folder."""
    with pytest.raises(JournalError, match="s3://bucket/journal holds no journal"), local_journal(ADDRESS):
        pass
    with pytest.raises(JournalError, match="begins with s3://, gs://, az://"), local_journal(Address("hf", "a/b")):
        pass
    shutil.rmtree(store.folder)
    with pytest.raises(JournalError, match="s3://bucket/journal holds no journal"), local_journal(ADDRESS):
        pass


def test_names_say_where_a_segment_stands() -> None:
    """The model may have hyphens, numbers are compared as numbers, and other names are chains of their own."""
    place = place_of("a-b-12-3f2a9c04-1000000.arrows")
    assert (place.model, place.chain, place.sequence) == ("a-b", "a-b-12-3f2a9c04", 1_000_000)
    assert place > place_of("a-b-12-3f2a9c04-999999.arrows")
    assert place_of("other.arrows") == ("other.arrows", 0)


@pytest.mark.parametrize("text", ["uploads", "hf://company/journal", "ftp://host/journal"])
def test_only_an_object_store_can_be_named(text: str) -> None:
    """The setting takes an address of a store that is written to."""
    with pytest.raises(SettingError, match=r"but journal_upload takes text: .*(s3://BUCKET|is not supported)"):
        settings.load({"journal": "journal", "journal_upload": text}, {})
