"""Models are swapped while callers of every protocol go on."""

from pathlib import Path

import pytest

from bench.reload.answers import mixed
from bench.reload.service import served

SWAPS = 12


@pytest.mark.parametrize("workers", [1, 2])
def test_every_answer_is_whole_and_of_the_version_that_it_names(tmp_path: Path, workers: int) -> None:
    """Under swaps no request fails, and each answer has the bytes of its version, streamed tables and gRPC included."""
    with served(tmp_path, workers) as (service, port):
        findings = mixed(service, port, SWAPS)
    assert findings.wrong == []
    assert set(findings.answers) == {"native", "oip", "v1", "table", "slow table", "grpc"}
    assert findings.versions[1] > 0
    assert findings.versions[2] > 0
