"""Records of violations are private files, and only such a record is read back."""

import json
from pathlib import Path

import pytest

from batchproof.service.invariance.violations import FORMAT, read_record, requests_of


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
