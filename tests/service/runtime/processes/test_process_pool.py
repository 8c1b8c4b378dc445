"""The service's side of the helper, where the system has nothing left to give."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.processes import process_pool
from batchproof.service.runtime.processes.process_pool import ProcessPool

MOST_FREE = 12  # descriptors: more than a helper and a process take while they start


@pytest.fixture
def held() -> Iterator[list[int]]:
    """Return descriptors to close: there are no others to have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + MOST_FREE + 1, hard))
    taken: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))
    yield taken
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for descriptor in taken:
        os.close(descriptor)


def opened() -> set[int]:
    """Return the descriptors of this process; looking for them takes none for long."""
    return {number for number in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]) if is_open(number)}


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_descriptors_that_run_out_are_a_refusal(held: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """However few descriptors are left, a process is there or 503 is the answer, and none of them is lost."""
    monkeypatch.setattr(process_pool, "COMMAND", ["/bin/sh", "-c", "cat"])  # reads until the pool is closed
    codes = []
    for _ in range(MOST_FREE):
        before = opened()
        pool = ProcessPool("module", 1)
        try:
            pool.new().close()
        except ServiceError as error:
            codes.append((error.status, error.code))
        else:
            codes.append((200, ""))
        pool.close()
        assert opened() == before
        os.close(held.pop())
    assert codes == sorted(codes, reverse=True)
    assert set(codes) == {(503, "reader_lost"), (200, "")}
