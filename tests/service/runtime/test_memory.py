"""Memory of a process: what was freed goes back to the system."""

import ctypes
from types import SimpleNamespace

import pytest

from batchproof.service.runtime import memory


def test_freed_memory_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library is asked to return all that it can, and is left alone where it has no such function."""
    asked = list[int]()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=asked.append))
    memory.give_back()
    assert asked == [0]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    memory.give_back()
    assert asked == [0]


@pytest.mark.parametrize(
    "text, size",
    [
        ("4GB", 4_000_000_000),
        ("512 MB", 512_000_000),
        ("1.5gib", 3 << 29),
        ("7 B", 7),
        ("8kB", 8000),
        ("2T", 2 * 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number with a unit of 1000 or of 1024."""
    assert memory.size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "4 EB", "-1GB", "0GB", "4", "0.1", "4I", "GB"])
def test_bad_sizes(text: str) -> None:
    """Another text is refused in a sentence that shows how a size is written."""
    with pytest.raises(
        ValueError, match=r"is no size of memory: write a number and its unit, such as 4GB, 512MB or 8GiB\."
    ):
        memory.size_bytes(text)
