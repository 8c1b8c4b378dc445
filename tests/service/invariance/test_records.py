"""Records of violations are private files, and only such a record is read back."""

import json
import os
import stat
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from batchproof.service.invariance.bitwise import Difference
from batchproof.service.invariance.violations import (
    FORMAT,
    MAX_RECORDS,
    Records,
    Violation,
    place_of,
    read_record,
    requests_of,
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("not JSON", "it is not JSON"),
        ("[]", "its field format is not"),
        ('{"format": "something else"}', "its field format is not"),
    ],
)
def test_another_file_is_no_record(tmp_path: Path, text: str, sentence: str) -> None:
    """A file that is not a record of a violation is a ValueError that names it and says why."""
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"record.json is not a record of a violation: {sentence}"):
        read_record(path)


def test_requests_that_cannot_be_read_are_said() -> None:
    """A record without readable requests is a ValueError, and so is another format."""
    path_content = json.loads(json.dumps({"format": FORMAT, "requests": [[{"dtype": "nonsense"}]]}))
    with pytest.raises(ValueError, match="the record's requests cannot be read"):
        requests_of(path_content)
    with pytest.raises(ValueError, match="its field format is not"):
        requests_of({"format": "another"})


def violation() -> Violation:
    """Return a violation of the second of two requests' first row."""
    requests = ([np.array([[1.0], [2.0]]), None], [np.array([[0.1]]), None])
    return Violation(Difference("value", 3, 2, 2, "00", "01"), (2, 1), requests, "2026-11-29T00:00:00.000+00:00")


def test_a_record_reads_back_to_the_bit(tmp_path: Path) -> None:
    """A record is a private file, and holds the very rows of the batch; after so many, none is written any more."""
    records = Records(tmp_path / "violations")
    path = records.write(violation(), {"model": "flowers"})
    assert path is not None
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    content = read_record(path)
    assert content["made_by"] == {"model": "flowers"}
    read = requests_of(content)
    for kept, mine in zip(read, violation().requests, strict=True):
        assert [None if array is None else array.tobytes() for array in kept] == [
            None if array is None else array.tobytes() for array in mine
        ]
    written = next(number for number in count(1) if records.write(violation(), {}) is None)
    assert written == MAX_RECORDS == len(list(path.parent.iterdir()))


def test_records_have_a_folder_of_their_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder of their own, records go to one of this user under the temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = Records().write(violation(), {})
    assert path is not None
    assert path.parent == tmp_path / f"batchproof-violations-{os.getuid()}"


def test_each_position_belongs_to_a_row_of_a_request() -> None:
    """Positions of a joined batch count the rows of its requests one after another; requests without rows have none."""
    sizes = [0, 2, 0, 0, 3, 0]
    rows = [(request, row) for request, size in enumerate(sizes) for row in range(size)]
    assert [place_of(sizes, position) for position in range(sum(sizes))] == rows
