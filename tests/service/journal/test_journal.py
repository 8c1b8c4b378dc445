"""The journal: what is handed over is written, what is written is checked, and nothing changes unseen."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle.signature import Signature
from batchproof.service.errors import JournalError, SettingError
from batchproof.service.features.encoder import Encoder
from batchproof.service.journal import reader, segment
from batchproof.service.journal.entries import Entry, Source
from batchproof.service.journal.writing import chain as chains
from batchproof.service.journal.writing import writer
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.writer import Journal
from tests.bundles import random_rows, signature_of

SIGNATURE: Signature = signature_of()
OUTPUTS = {"probabilities": ("float32", 3), "scores": ("float32", 3)}


def source(**changed: Any) -> Source:
    return Source(
        **{"model": "flowers", "version": 1, "seal": "ab" * 32, "signature": SIGNATURE, "outputs": OUTPUTS, **changed}
    )


def entry(rows: int = 1, seed: int = 0, **changed: Any) -> Entry:
    rng = np.random.default_rng(seed)
    outputs = {name: rng.normal(size=(rows, width)).astype(dtype) for name, (dtype, width) in OUTPUTS.items()}
    outputs["scores"][0, 0] = np.float32("nan")
    arrays = Encoder(SIGNATURE).encode_rows(random_rows(SIGNATURE, rows, seed)).arrays
    values = {"request_id": f"id-{seed}", "time_s": 1.7e9 + seed, "caller": "ada", "protocol": "native", "rows": rows}
    return Entry(**{**values, "arrays": arrays, "outputs": outputs, **changed})


def written(folder: Path, *entries: Entry, about: Source | None = None, **options: Any) -> list[Path]:
    """Write entries in one process and return the segments."""
    journal = Journal(Options(folder, **options))
    about = about or source()
    for one in entries:
        assert journal.append(about, one)
    journal.close()
    assert journal.counts.written_rows == sum(one.rows for one in entries)
    return sorted(folder.glob("*.arrows"))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    segments, problems = reader.check(folder)
    assert problems == []
    return [row for part in segments for batch in part.batches() for row in batch.to_pylist()]


def test_what_is_handed_over_is_read_back(tmp_path: Path) -> None:
    """Every row is kept with its request's id, time, caller and protocol, and its inputs and outputs to the bit."""
    entries = [entry(rows, seed) for seed, rows in enumerate((1, 3, 1, 40))]
    written(tmp_path / "journal", *entries)
    (part,), problems = reader.check(tmp_path / "journal")
    (batch, *more) = part.batches()
    assert (problems, more) == ([], [])

    assert batch["request_id"].to_pylist() == [one.request_id for one in entries for _ in range(one.rows)]
    assert batch["row"].to_pylist() == [row for one in entries for row in range(one.rows)]
    assert [t.timestamp() for t in batch["time"].to_pylist()] == [
        one.time_s for one in entries for _ in range(one.rows)
    ]
    for name in OUTPUTS:
        kept = np.concatenate([one.outputs[name] for one in entries])
        assert batch[f"out:{name}"].flatten().to_numpy(zero_copy_only=False).tobytes() == kept.tobytes()
    numeric = np.concatenate([one.arrays.numeric for one in entries])
    codes = np.concatenate([one.arrays.categorical for one in entries])
    places = {"numeric": 0, "categorical": 0}
    for feature in SIGNATURE.inputs:
        kind, table = ("categorical", codes) if feature.kind == "categorical" else ("numeric", numeric)
        assert (
            batch[f"in:{feature.name}"].to_numpy().tobytes() == np.ascontiguousarray(table[:, places[kind]]).tobytes()
        )
        places[kind] += 1


def test_writing_imports_no_pandas(tmp_path: Path, root: Path) -> None:
    """A service that writes a journal never imports pandas, which would take a fifth of a second and 50 MB."""
    code = (
        "import pathlib, sys; from tests.service.journal.test_journal import entry, source\n"
        "from batchproof.service.journal.writing.chain import Options\n"
        "from batchproof.service.journal.writing.writer import Journal\n"
        "journal = Journal(Options(pathlib.Path(sys.argv[1])))\n"
        "for rows in (1, 3): journal.append(source(), entry(rows))\n"
        "before = 'pandas' in sys.modules; journal.close(); print(before, 'pandas' in sys.modules, journal.counts.written_rows)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout == "False False 4\n"


def test_truth_values_are_bits(tmp_path: Path) -> None:
    """An output of true and false is kept as such, whatever its number of rows."""
    about = source(outputs={**OUTPUTS, "saturated": ("bool", 1)})
    flags = np.arange(19)[:, None] % 3 == 0
    one = entry(19)
    written(tmp_path, one._replace(outputs={**one.outputs, "saturated": flags}), about=about)
    assert [row["out:saturated"] for row in rows_of(tmp_path)] == flags.tolist()


def test_columns_may_be_left_out_or_hashed(tmp_path: Path) -> None:
    """A left-out feature is in no file; a hashed one has equal hashes for equal values, and others with another key."""
    for key in (b"one", b"two"):
        about = source(left_out=frozenset({"length_mm"}), hashed=frozenset({"island"}), hash_key=key)
        written(tmp_path / key.decode(), entry(50), about=about)
    first, second = (rows_of(tmp_path / name) for name in ("one", "two"))
    plain = [int(code) for code in entry(50).arrays.categorical[:, 0]]

    assert "in:length_mm" not in first[0]
    hashes = {
        code: {row["in:island"] for row, other in zip(first, plain, strict=True) if other == code}
        for code in set(plain)
    }
    assert all(len(found) == 1 for found in hashes.values())
    assert len({value for found in hashes.values() for value in found}) == len(hashes)
    assert {row["in:island"] for row in first}.isdisjoint(row["in:island"] for row in second)


def test_segments_follow_one_another(tmp_path: Path) -> None:
    """A segment that is large or old enough is finished, and the next one names its digest."""
    journal, about = Journal(Options(tmp_path, segment_bytes=1)), source()
    for seed in range(3):
        journal.append(about, entry(seed=seed))
        deadline_s = time.monotonic() + 10
        while journal.counts.segments <= seed and time.monotonic() < deadline_s:
            time.sleep(0.005)
    journal.close()
    segments, problems = reader.check(tmp_path)

    assert problems == []
    assert [part.header["sequence"] for part in segments] == [0, 1, 2]
    assert [part.header["previous"] for part in segments[1:]] == [part.covered.digest for part in segments[:-1]]
    assert all(part.covered.is_finished for part in segments)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Return a journal of three segments of one chain."""
    journal, about = Journal(Options(tmp_path / "chain", segment_bytes=1)), source()
    for seed in range(3):
        journal.append(about, entry(seed=seed))
        while journal.counts.segments <= seed:
            time.sleep(0.005)
    journal.close()
    return tmp_path / "chain"


def test_every_altered_byte_is_found(chain: Path) -> None:
    """Whichever byte of a segment or of its digests is altered, the check names the segment."""
    for path in sorted(chain.iterdir()):
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            _, problems = reader.check(chain)
            assert problems, (path.name, place)
            assert path.name.startswith(problems[0].segment)
        path.write_bytes(whole)
    assert reader.check(chain)[1] == []


def test_other_tampering_is_found(chain: Path, tmp_path: Path) -> None:
    """Segments that are removed, exchanged, cut, made longer or written anew with new digests break their chain."""

    def problems_after(change: Callable[[list[Path]], object]) -> list[str]:
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(chain, folder)
        change(sorted(folder.glob("*.arrows")))
        return [problem.what for problem in reader.check(folder)[1]]

    def remove_middle(paths: list[Path]) -> None:
        for path in (paths[1], segment.sums_path(paths[1])):
            path.unlink()

    def forge(paths: list[Path]) -> None:
        """Give the middle segment other bytes with digests that fit."""
        other = tmp_path / "other"
        shutil.rmtree(other, ignore_errors=True)
        (forged,) = written(other, entry(seed=99))
        raw = forged.read_bytes()
        header = next(iter(reader.check(other)[0])).header
        theirs = next(part.header for part in reader.check(chain)[0] if part.path.name == paths[1].name)
        assert header != theirs
        shutil.copy(paths[0], paths[1])
        shutil.copy(segment.sums_path(paths[0]), segment.sums_path(paths[1]))
        assert raw

    assert problems_after(lambda paths: paths[1].unlink()) == [
        "it is missing; its digests are there",
        *problems_after(remove_middle),
    ]
    assert "a segment before it is missing" in problems_after(remove_middle)[0]
    assert "the same place in its chain" in problems_after(forge)[0]
    assert (
        "bytes more than were written"
        in problems_after(lambda paths: paths[2].write_bytes(paths[2].read_bytes() + b"x"))[0]
    )
    assert "were written" in problems_after(lambda paths: paths[2].write_bytes(paths[2].read_bytes()[:-8]))[0]
    assert "cannot be read" in problems_after(lambda paths: segment.sums_path(paths[0]).unlink())[0]


def test_signed_segments_need_a_trusted_key(tmp_path: Path) -> None:
    """Where segments are signed, one whose signature is missing or of another key is found."""
    written(tmp_path, entry(), sign=lambda message: b"signed " + message)
    sound = reader.check(tmp_path, lambda signature, message: signature == b"signed " + message)
    assert sound[1] == []
    assert sound[0][0].signed
    assert "no signature of a trusted key" in reader.check(tmp_path, lambda *given: False)[1][0].what


def test_no_journal_is_one_sentence(tmp_path: Path) -> None:
    """A folder without segments, or that is no folder, is refused; one that cannot be made stops the start."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(JournalError, match="holds no journal"):
            reader.check(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="The journal cannot be written"):
        Journal(Options(tmp_path / "file"))


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is slow, no more than the buffer waits; the rest is dropped and counted."""
    slow = threading.Event()
    sound = segment.Segment.write
    monkeypatch.setattr(segment.Segment, "write", lambda self, batch: (slow.wait(30), sound(self, batch))[1])
    about = source()
    journal = Journal(Options(tmp_path, buffer_bytes=10 * about.row_bytes))
    for seed in range(100):
        journal.append(about, entry(seed=seed))
        time.sleep(0.002)
    slow.set()
    journal.close()

    assert journal.counts.dropped_rows > 0
    assert journal.counts.written_rows + journal.counts.dropped_rows == 100
    assert len(rows_of(tmp_path)) == journal.counts.written_rows


def test_a_disk_that_refuses_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk loses what it refuses, with its caller told why; later rows go to a new chain, and all of it checks."""
    told: list[str | None] = []
    about = source()
    monkeypatch.setattr(writer, "RETRY_S", 0.0)
    monkeypatch.setattr(chains, "RETRY_S", 0.0)
    journal = Journal(Options(tmp_path, full="refuse"))
    sound = segment._write_all

    def full(file: Any, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "segment")

    for seed, disk in enumerate((sound, full, sound)):
        monkeypatch.setattr(segment, "_write_all", disk)
        done = threading.Event()
        journal.append(
            about, entry(seed=seed, on_written=lambda failure, done=done: (told.append(failure), done.set()))
        )
        assert done.wait(10)
    journal.close()

    assert told == [None, "segment: No space left on device", None]
    assert (journal.counts.written_rows, journal.counts.refused_rows, journal.counts.dropped_rows) == (2, 1, 0)
    assert {row["request_id"] for row in rows_of(tmp_path)} == {"id-0", "id-2"}


KILLED = """
import pathlib, sys
sys.path.insert(0, {root!r})
from tests.service.journal.test_journal import entry, source
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.writer import Journal
journal, about = Journal(Options(pathlib.Path(sys.argv[1]), full="refuse")), source()
seed = 0
while True:
    journal.append(about, entry(seed=seed, on_written=lambda failure, seed=seed: print(seed, failure, flush=True)))
    seed += 1
"""


@pytest.mark.parametrize("moment_s", [0.05, 0.2, 0.5])
def test_a_kill_loses_nothing_that_was_promised(tmp_path: Path, root: Path, moment_s: float) -> None:
    """After kill -9 at any moment every entry that was called written is read back, and the journal has no problem."""
    command = [sys.executable, "-c", KILLED.format(root=str(root)), str(tmp_path / "journal")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(moment_s)
        os.kill(process.pid, signal.SIGKILL)
        promised = [
            line.split() for line in [first, *process.stdout.read().splitlines(keepends=True)] if line.endswith("\n")
        ]

    assert all(failure == "None" for _, failure in promised)
    assert {f"id-{seed}" for seed, _ in promised} <= {row["request_id"] for row in rows_of(tmp_path / "journal")}


@pytest.mark.parametrize("torn", [b"", b"12", b"1234 ", b"1234 0a1b2c"])
def test_a_kill_at_the_first_line_is_no_problem(chain: Path, torn: bytes) -> None:
    """A segment of which no line was whole, with rows behind it or none, promised nothing and is passed over."""
    for name, rows in (("new-000000.arrows", b"some bytes"), ("newer-000000.arrows", None)):
        if rows is not None:
            (chain / name).write_bytes(rows)
        segment.sums_path(chain / name).write_bytes(torn)
    segments, problems = reader.check(chain)

    assert problems == []
    assert len(segments) == 3


def test_a_segment_that_cannot_begin_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a full disk takes the names of a segment's files but no byte, both files go again."""

    def full(file: Any, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segment, "_write_all", full)
    journal = Journal(Options(tmp_path))
    journal.append(source(), entry())
    journal.close()
    assert list(tmp_path.iterdir()) == []
    assert journal.counts.dropped_rows == 1


def test_old_segments_are_removed(chain: Path) -> None:
    """Segments older than `keep_s` go, whoever wrote them and unfinished ones too, and what is left has no problem."""
    first, second, third = sorted(chain.glob("*.arrows"))
    for path in (first, segment.sums_path(first), second):
        os.utime(path, (time.time() - 100, time.time() - 100))
    journal = Journal(Options(chain, keep_s=50.0))
    deadline_s = time.monotonic() + 10
    while second.exists() and time.monotonic() < deadline_s:
        time.sleep(0.005)
    journal.close()

    assert sorted(chain.iterdir()) == [third, segment.sums_path(third)]
    assert reader.check(chain)[1] == []


def test_rows_of_a_part_have_their_own_places(tmp_path: Path) -> None:
    """Where some rows of a request were refused, the others keep the places that they had in it."""
    written(tmp_path, entry(3, places=[1, 4, 5]), entry(2, 1))
    assert [row["row"] for row in rows_of(tmp_path)] == [1, 4, 5, 0, 1]


def test_the_header_says_what_answered(tmp_path: Path) -> None:
    """Each segment says which model, version and seal answered, on which engine and host."""
    written(tmp_path, entry(), about=source(fingerprint={"engine": "onnxruntime 9"}, host={"cpu": "x"}))
    header = reader.check(tmp_path)[0][0].header

    assert (header["model"], header["version"], header["seal"]) == ("flowers", 1, "ab" * 32)
    assert json.loads(json.dumps(header))["fingerprint"] == {"engine": "onnxruntime 9"}
