"""The audit looks at the share of batches that it was told to, finds what differs, and its records reproduce it."""

import json
from pathlib import Path

import numpy as np
import pytest

from batchproof.service.inference.runner import Feeds, Runner
from batchproof.service.invariance.audit import Audit
from batchproof.service.invariance.violations import MAX_RECORDS, Records, Violation, replay, requests_of
from tests.varying import Stand

LEAKING = Runner(Stand(lambda x: x.mean(axis=0)), 64)
SOUND = Runner(Stand(), 64)


def requests(*sizes: int) -> list[Feeds]:
    rng = np.random.default_rng(3)
    return [[rng.normal(size=(size, 2)).astype(np.float32)] for size in sizes]


def violation() -> Violation:
    batch = requests(1, 3, 2)
    found = Audit(1, seed=4).audit_batch(LEAKING, batch, LEAKING.run(batch))
    assert found is not None
    return found


@pytest.mark.parametrize("rate", [1, 2, 10, 100])
def test_share_of_batches(rate: int) -> None:
    """One batch in `rate` is due on average."""
    audit = Audit(rate, seed=1)
    due = sum(audit.is_due() for _ in range(rate * 1000))

    assert 900 <= due <= 1100


def test_gaps_have_no_rhythm() -> None:
    """Due batches do not come at one distance: regular traffic cannot hide from it."""
    audit = Audit(10, seed=1)
    due = [number for number in range(2000) if audit.is_due()]

    assert len(set(np.diff(due).tolist())) > 10


def test_rate_zero_looks_at_none() -> None:
    """0 switches the audit off."""
    audit = Audit(0, seed=1)

    assert not any(audit.is_due() for _ in range(10_000))


@pytest.mark.parametrize("seed", range(20))
def test_sound_batch_passes(seed: int) -> None:
    """A row that has its lone bits is no violation, whichever row is chosen."""
    batch, audit = requests(4, 1, 7), Audit(1, seed=seed)

    assert audit.is_due()
    assert audit.audit_batch(SOUND, batch, SOUND.run(batch)) is None
    assert (audit.looked, audit.violations) == (1, 0)


def test_every_row_may_be_chosen() -> None:
    """Over many looks each position of the batch is looked at, and its own output is what is compared."""
    batch, audit = requests(1, 3, 2), Audit(1, seed=0)
    outputs = LEAKING.run(batch)
    found = [audit.audit_batch(LEAKING, batch, outputs) for _ in range(200)]

    assert {one.difference.position for one in found if one} == set(range(6))
    assert audit.violations == 200


@pytest.mark.parametrize("wrong", range(6))
def test_only_the_wrong_row_violates(wrong: int) -> None:
    """Where one row of a batch was answered wrongly, just the look at that row finds it."""
    batch = requests(1, 3, 2)
    joined = np.concatenate([one["y"] for one in SOUND.run(batch)])
    joined[wrong] += 1
    outputs = [{"y": part} for part in np.split(joined, [1, 4])]
    audit = Audit(1, seed=wrong)
    found = [one for one in (audit.audit_batch(SOUND, batch, outputs) for _ in range(200)) if one]

    assert {one.difference.position for one in found} == {wrong}


def test_lone_row_is_no_batch() -> None:
    """A batch of one row has nobody to depend on, and is not looked at."""
    batch, audit = requests(1), Audit(1)

    assert audit.audit_batch(LEAKING, batch, LEAKING.run(batch)) is None
    assert audit.looked == 0


def test_sentence_holds_no_value() -> None:
    """What goes to the log names sizes and position and none of the numbers."""
    found = violation()

    assert "batch of 6 rows (requests of 1, 3, 2 rows)" in found.sentence
    assert found.difference.alone not in found.sentence
    assert all(str(number) not in found.sentence for array in found.requests for number in array[0].ravel())


def test_record_reproduces(tmp_path: Path) -> None:
    """The record, read back, runs to the same difference on the engine that violated, and to none on a sound one."""
    found = violation()
    path = Records(tmp_path / "new").write(found, {"model": "flowers"})
    assert path is not None
    record = json.loads(path.read_bytes())
    again = replay(LEAKING, record)

    assert again is not None
    assert (again.alone, again.batched) == (found.difference.alone, found.difference.batched)
    assert replay(SOUND, record) is None
    assert record["made_by"] == {"model": "flowers"}
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_record_keeps_every_bit() -> None:
    """Arrays of all dtypes, NaN payloads, zeros of both signs and an absent input survive the record."""
    numbers = np.array([[np.nan, -0.0], [0.0, 5e-324]])
    numbers.view(np.uint64)[0, 0] ^= 1
    feeds: Feeds = [numbers, None, np.array([[1], [-2]])]
    found = Violation(violation().difference, (2,), (feeds,), "2026-11-22T00:00:00.000+00:00")
    (read,) = requests_of(json.loads(json.dumps(found.record({}))))

    assert read[1] is None
    assert [array.tobytes() for array in read if array is not None] == [numbers.tobytes(), feeds[2].tobytes()]
    assert [array.dtype for array in read if array is not None] == [np.float64, np.int64]


def test_records_are_bounded(tmp_path: Path) -> None:
    """One process writes a bounded number of records."""
    records = Records(tmp_path)
    written = [records.write(violation(), {}) for _ in range(MAX_RECORDS + 3)]

    assert sum(path is not None for path in written) == len(list(tmp_path.iterdir())) == MAX_RECORDS


@pytest.mark.parametrize(
    "change, said",
    [
        ({"format": "else"}, "not a record"),
        ({"requests": 3}, "requests cannot be read"),
        ({"position": 6}, "position"),
        ({"position": "0"}, "position"),
    ],
)
def test_broken_record_is_refused(change: dict[str, object], said: str) -> None:
    """A file that is not a whole record is refused with a sentence."""
    with pytest.raises(ValueError, match=said):
        replay(SOUND, {**violation().record({}), **change})
