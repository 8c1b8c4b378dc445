"""The journal: what is handed over is written, what is written is checked, and nothing changes unseen."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchproof.service.bundle.signature import Signature
from batchproof.service.errors import JournalError
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.journal import reader, segment
from batchproof.service.journal.entries import Group, Notes, Source
from batchproof.service.journal.messages import Messages
from batchproof.service.journal.segment import Sign
from batchproof.service.journal.writing import chain as chains
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.writer import Writer
from tests.bundles import random_rows, signature_of

SIGNATURE: Signature = signature_of()
OUTPUTS = {"probabilities": ("float32", 3), "scores": ("float32", 3)}


def source(**changed: Any) -> Source:
    features = [(feature.name, feature.kind) for feature in SIGNATURE.inputs]
    return Source(
        **{"model": "flowers", "version": 1, "seal": "ab" * 32, "features": features, "outputs": OUTPUTS, **changed}
    )


def group(rows: int = 1, seed: int = 0, places: Sequence[int] | None = None) -> Group:
    """Return one answered request."""
    rng = np.random.default_rng(seed)
    outputs = {name: rng.normal(size=(rows, width)).astype(dtype) for name, (dtype, width) in OUTPUTS.items()}
    outputs["scores"][0, 0] = np.float32("nan")
    arrays = Encoder(SIGNATURE).encode_rows(random_rows(SIGNATURE, rows, seed)).arrays
    return Group([(1.7e9 + seed, 1)], Notes.of([(f"id-{seed}", "ada", "native", rows, places)]), arrays, outputs)


def written(
    folder: Path, *batches: Sequence[Group], about: Source | None = None, sign: Sign | None = None, **options: Any
) -> list[Path]:
    """Write batches in one process and return the segments."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(Options(folder, **options), sign)
    about = about or source()
    for groups in batches:
        assert writer.write(about, groups) is None
        writer.tidy()
    writer.close()
    assert writer.counts.written_rows == sum(one.rows for groups in batches for one in groups)
    return sorted(folder.glob("*.arrows"))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    segments, problems = reader.check(folder)
    assert problems == []
    return [row for part in segments for batch in part.batches() for row in batch.to_pylist()]


def test_what_is_handed_over_is_read_back(tmp_path: Path) -> None:
    """Every row is kept with its request's id, time, caller and protocol, and its inputs and outputs to the bit."""
    groups = [group(rows, seed) for seed, rows in enumerate((1, 3, 1, 40))]
    written(tmp_path / "journal", groups)
    (part,), problems = reader.check(tmp_path / "journal")
    (batch, *more) = part.batches()
    assert (problems, more) == ([], [])

    assert batch["request_id"].to_pylist() == [f"id-{seed}" for seed, one in enumerate(groups) for _ in range(one.rows)]
    assert batch["row"].to_pylist() == [row for one in groups for row in range(one.rows)]
    assert [t.timestamp() for t in batch["time"].to_pylist()] == [
        one.times[0][0] for one in groups for _ in range(one.rows)
    ]
    assert set(batch["caller"].to_pylist()) == {"ada"}
    for name in OUTPUTS:
        kept = np.concatenate([one.outputs[name] for one in groups])
        assert batch[f"out:{name}"].flatten().to_numpy(zero_copy_only=False).tobytes() == kept.tobytes()
    numeric = np.concatenate([one.arrays.numeric for one in groups])
    codes = np.concatenate([one.arrays.categorical for one in groups])
    places = {"numeric": 0, "categorical": 0}
    for feature in SIGNATURE.inputs:
        kind, table = ("categorical", codes) if feature.kind == "categorical" else ("numeric", numeric)
        assert (
            batch[f"in:{feature.name}"].to_numpy().tobytes() == np.ascontiguousarray(table[:, places[kind]]).tobytes()
        )
        places[kind] += 1


@pytest.mark.parametrize(
    "requests",
    [
        [[("a", 1)], [("b", 1)]],
        [[("a", 2), ("b", 1)], [("c", 3)]],
        [[("ä", 1), ("日本", 2)], [("", 1)]],
    ],
)
def test_groups_are_written_in_order(tmp_path: Path, requests: list[list[tuple[str, int]]]) -> None:
    """Requests of several batches, with ids and callers of any script, keep their order, times and rows."""
    groups = []
    for number, one in enumerate(requests):
        rows = sum(count for _, count in one)
        whole = group(rows, number)
        notes = [(name, name + "!", f"{name}?", count, None) for name, count in one]
        groups.append(Group([(number + 0.5, len(one))], Notes.of(notes), whole.arrays, whole.outputs))
    written(tmp_path, groups)
    rows_read = rows_of(tmp_path)

    wanted = [(name, number, row) for number, one in enumerate(requests) for name, count in one for row in range(count)]
    assert [(row["request_id"], row["time"].timestamp() - 0.5, row["row"]) for row in rows_read] == wanted
    assert all(
        (row["caller"], row["protocol"]) == (f"{row['request_id']}!", f"{row['request_id']}?") for row in rows_read
    )


def test_messages_are_those_of_arrow(tmp_path: Path) -> None:
    """Batches of every shape, with hashed features, bits and several groups, read as what Arrow itself would have written."""
    outputs = {"scores": ("float32", 3), "saturated": ("bool", 1), "flags": ("bool", 3), "value": ("float64", 1)}
    for features in (
        [("a", "numeric")],
        [("k", "categorical")],
        [("k", "categorical"), ("a", "numeric"), ("d", "date"), ("l", "categorical"), ("b", "numeric")],
    ):
        about = source(features=features, outputs=outputs, hashed=[features[0][0]], hash_key="aa")
        schema = about.schema(about.header("c", 0, ""))
        messages = Messages(about, schema)
        for sizes in ([1], [1, 1], [2], [3, 1], [40, 1, 7], [5000]):
            groups = [drawn(about, rows, seed) for seed, rows in enumerate(sizes)]
            raw = bytes(messages.message(groups))
            batch = pa.ipc.read_record_batch(pa.py_buffer(raw), schema)
            batch.validate(full=True)
            assert bytes(batch.serialize()) == raw
            assert batch.num_rows == sum(sizes)
            for name in outputs:
                kept = np.concatenate([one.outputs[name] for one in groups])
                values = batch[f"out:{name}"].flatten().to_numpy(zero_copy_only=False)
                assert values.astype(kept.dtype).tobytes() == kept.tobytes()


def drawn(about: Source, rows: int, seed: int) -> Group:
    """Return random rows of any source: one request."""
    rng = np.random.default_rng(seed)
    kinds = [kind for _, kind in about.features]
    codes, numbers = kinds.count("categorical"), len(kinds) - kinds.count("categorical")
    arrays = Arrays(
        rng.normal(size=(rows, numbers)) if numbers else None,
        rng.integers(9, size=(rows, codes)) if codes else None,
    )
    outputs = {name: rng.normal(size=(rows, width)).astype(dtype) for name, (dtype, width) in about.outputs.items()}
    return Group([(1.7e9, 1)], Notes.of([(f"id-{seed}", "", "native", rows, None)]), arrays, outputs)


def test_writing_imports_no_pandas(tmp_path: Path, root: Path) -> None:
    """The writing process never imports pandas, which would take a fifth of a second and 50 MB, nor pydantic."""
    code = (
        "import pathlib, sys; import batchproof.service.journal.writing.process\n"
        "print('pydantic' in sys.modules)\n"
        "from tests.service.journal.test_journal import group, written\n"
        "before = 'pandas' in sys.modules; written(pathlib.Path(sys.argv[1]), [group(1)], [group(3)])\n"
        "print(before, 'pandas' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert (
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout == "False\nFalse False\n"
    )


def test_truth_values_are_bits(tmp_path: Path) -> None:
    """An output of true and false is kept as such, whatever its number of rows."""
    about = source(outputs={**OUTPUTS, "saturated": ("bool", 1)})
    flags = np.arange(19)[:, None] % 3 == 0
    one = group(19)
    written(tmp_path, [one._replace(outputs={**one.outputs, "saturated": flags})], about=about)
    assert [row["out:saturated"] for row in rows_of(tmp_path)] == flags.tolist()


def test_columns_may_be_left_out_or_hashed(tmp_path: Path) -> None:
    """A left-out feature is in no file; a hashed one has equal hashes for equal values, and others with another key."""
    for key in ("11", "22"):
        about = source(left_out=["length_mm"], hashed=["island"], hash_key=key)
        written(tmp_path / key, [group(50)], about=about)
    first, second = (rows_of(tmp_path / name) for name in ("11", "22"))
    plain = [int(code) for code in group(50).arrays.categorical[:, 0]]

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
    written(tmp_path, *([group(seed=seed)] for seed in range(3)), segment_bytes=1)
    segments, problems = reader.check(tmp_path)

    assert problems == []
    assert [part.header["sequence"] for part in segments] == [0, 1, 2]
    assert [part.header["previous"] for part in segments[1:]] == [part.covered.digest for part in segments[:-1]]
    assert all(part.covered.is_finished for part in segments)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Return a journal of three segments of one chain."""
    written(tmp_path / "chain", *([group(seed=seed)] for seed in range(3)), segment_bytes=1)
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
        (forged,) = written(other, [group(seed=99)])
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
    written(tmp_path, [group()], sign=lambda message: b"signed " + message)
    sound = reader.check(tmp_path, lambda signature, message: signature == b"signed " + message)
    assert sound[1] == []
    assert sound[0][0].signed
    assert "no signature of a trusted key" in reader.check(tmp_path, lambda *given: False)[1][0].what


def test_no_journal_is_one_sentence(tmp_path: Path) -> None:
    """A folder without segments, or that is no folder, is refused."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(JournalError, match="holds no journal"):
            reader.check(folder)


def test_a_disk_that_refuses_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk loses what it refuses, with the reason; later rows go to a new chain, and all of it checks."""
    about = source()
    monkeypatch.setattr(chains, "RETRY_S", 0.0)
    writer = Writer(Options(tmp_path))
    sound = segment._write_all

    def full(file: Any, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "segment")

    failures = []
    for seed, disk in enumerate((sound, full, sound)):
        monkeypatch.setattr(segment, "_write_all", disk)
        failures.append(writer.write(about, [group(seed=seed)]))
    writer.close()

    assert failures == [None, "segment: No space left on device", None]
    assert (writer.counts.written_rows, writer.counts.failures) == (2, 1)
    assert {row["request_id"] for row in rows_of(tmp_path)} == {"id-0", "id-2"}


def test_a_disk_that_refused_is_left_alone_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a write that failed the disk is not asked again at once."""
    writer, asked = Writer(Options(tmp_path)), []

    def full(file: Any, data: Any) -> None:
        asked.append(data)
        raise OSError(errno.ENOSPC, "No space left on device", "segment")

    monkeypatch.setattr(segment, "_write_all", full)
    about = source()
    assert writer.write(about, [group()]) == "segment: No space left on device"
    assert writer.write(about, [group()]) == "the disk refused the last write"
    assert len(asked) == 1


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
    writer = Writer(Options(tmp_path))
    assert "No space left on device" in (writer.write(source(), [group()]) or "")
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_old_segments_are_removed(chain: Path) -> None:
    """Segments older than `keep_s` go, whoever wrote them and unfinished ones too, and what is left has no problem."""
    first, second, third = sorted(chain.glob("*.arrows"))
    for path in (first, segment.sums_path(first), second):
        os.utime(path, (time.time() - 100, time.time() - 100))
    writer = Writer(Options(chain, keep_s=50.0))
    assert writer.wait_s == 0.0
    writer.tidy()
    assert 0.0 < (writer.wait_s or 0.0) <= 5.0

    assert sorted(chain.iterdir()) == [third, segment.sums_path(third)]
    assert reader.check(chain)[1] == []


def test_rows_of_a_part_have_their_own_places(tmp_path: Path) -> None:
    """Where some rows of a request were refused, the others keep the places that they had in it."""
    written(tmp_path, [group(3, places=[1, 4, 5]), group(2, 1)])
    assert [row["row"] for row in rows_of(tmp_path)] == [1, 4, 5, 0, 1]


def test_the_header_says_what_answered(tmp_path: Path) -> None:
    """Each segment says which model, version and seal answered, on which engine and host."""
    written(tmp_path, [group()], about=source(fingerprint={"engine": "onnxruntime 9"}, host={"cpu": "x"}))
    header = reader.check(tmp_path)[0][0].header

    assert (header["model"], header["version"], header["seal"]) == ("flowers", 1, "ab" * 32)
    assert json.loads(json.dumps(header))["fingerprint"] == {"engine": "onnxruntime 9"}
