"""Frames between a worker and its writing process: what is sent is what is read, however the bytes come."""

import numpy as np
import pytest

from batchproof.service.journal.entries import Notes
from batchproof.service.journal.writing.frames import (
    BUFFER_BYTES,
    GROUP,
    RETIRE,
    FrameReader,
    Kept,
    frame,
    group_frame,
    group_of,
)
from tests.service.journal.test_journal import group, source

SIZES = (1, 700, 3, 40_000, 1, 1, 9_000)  # rows of the frames: the largest is larger than a reader's buffer


def kept(rows: int, seed: int) -> Kept:
    one = group(rows, seed)
    return Kept([(f"id-{seed}", "ada", "native", rows, None)], one.arrays, one.outputs)


@pytest.mark.parametrize("most", [1, 17, 4096, 1 << 24])
def test_frames_come_in_any_pieces(most: int) -> None:
    """Frames that come in pieces of any size, one or many at a time, are read whole and in order."""
    sizes = (1, 2, 1) if most < 1000 else SIZES
    sent = b"".join(
        bytes(part)
        for seed, rows in enumerate(sizes)
        for part in [*frame(RETIRE, seed), *group_frame(seed, source(), [kept(rows, seed)], [(float(seed), 1)])]
    )
    reader, place, found = FrameReader(), 0, []
    while place < len(sent):
        room = reader.room()
        size = min(len(room), most, len(sent) - place)
        room[:size] = sent[place : place + size]
        place += size
        reader.took(size)
        for one in reader.frames():
            if one.kind == RETIRE:
                found.append(one.content)
                continue
            assert one.kind == GROUP
            seed, times, *notes = one.content
            ran = group_of(source(), times, Notes(*notes), one.arrays)
            wanted = group(sizes[seed], seed)
            assert [list(time) for time in ran.times] == [[float(seed), 1]]
            assert (list(ran.notes.ids), ran.rows) == ([f"id-{seed}"], sizes[seed])
            pairs = [*zip(ran.arrays, wanted.arrays, strict=True)]
            pairs += [(ran.outputs[name], wanted.outputs[name]) for name in wanted.outputs]
            for mine, theirs in pairs:
                assert mine is not None
                assert theirs is not None
                assert mine.tobytes() == theirs.tobytes()
            found.append(seed)
    assert found == [seed for seed in range(len(sizes)) for _ in range(2)]


def test_a_reader_keeps_no_memory_of_large_frames() -> None:
    """After a frame that was larger than the buffer, the buffer has its first size again."""
    reader = FrameReader()
    sent = b"".join(map(bytes, frame(GROUP, 0, [np.zeros(BUFFER_BYTES)])))
    while sent:
        room = reader.room()
        room[: len(sent)] = sent[: len(room)]
        reader.took(len(sent[: len(room)]))
        sent = sent[len(room) :]
    assert len(list(reader.frames())) == 1
    assert len(reader.room()) == BUFFER_BYTES


def test_runs_of_one_frame_are_joined() -> None:
    """Several runs make one frame: their requests and rows one after another, whatever the layout of their arrays."""
    runs = [kept(rows, seed) for seed, rows in enumerate((2, 1, 30))]
    assert runs[1].arrays.numeric is not None
    runs[1] = runs[1]._replace(arrays=runs[1].arrays._replace(numeric=np.asfortranarray(runs[1].arrays.numeric)))
    reader = FrameReader()
    sent = b"".join(map(bytes, group_frame(7, source(), runs, [(1.0, 1), (2.0, 1), (3.0, 1)])))
    reader.room()[: len(sent)] = sent
    reader.took(len(sent))
    ((_, content, arrays),) = reader.frames()
    ran = group_of(source(), content[1], Notes(*content[2:]), arrays)
    assert ran.notes == Notes(["id-0", "id-1", "id-2"], ["ada"], ["native"], [2, 1, 30], None)
    for name, values in ran.outputs.items():
        assert values.tobytes() == np.concatenate([one.outputs[name] for one in runs]).tobytes()
    for kind, table in enumerate(ran.arrays):
        assert table is not None
        assert table.tobytes() == np.concatenate([one.arrays[kind] for one in runs]).tobytes()
