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
