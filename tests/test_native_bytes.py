"""Bodies that are parsed natively, damaged bit by bit: a refusal or the rows, never the end of the service."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fuzz_native import Caller, OtherCaller, callers, tried
from tests.live import Live
from tests.native_bodies import BODIES

INPUTS = {"parquet": 100, "arrow": 500, "npy": 1000, "gzip": 1000, "protobuf": 1000, "json": 1000}  # of each body
RANDOM = 9  # one of so many is random damage


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Live, Caller]]:
    """Serve the models that the bodies are for."""
    with callers() as found:
        yield found


def spread(count: int, length: int) -> Iterator[int]:
    """Yield numbers of damages: bits and cuts of the whole body at a step, its last bits first, and some random ones."""
    bits = 9 * length
    step = max(1, bits // count) | 1
    yield from range(bits - 1, -1, -step)
    yield from range(bits, bits + count // RANDOM)


@pytest.mark.parametrize("kind", BODIES)
def test_damaged_bodies_are_refused_or_answered(server: tuple[Live, Caller], kind: str) -> None:
    """A damaged body gets its rows or a 4xx with one sentence, the service lives, and another caller is answered."""
    found, caller = server
    counts: Counter[str] = Counter()
    with OtherCaller(found) as other:
        lines = tried(caller, kind, lambda length: spread(INPUTS[kind], length), counts)
    assert lines == []
    assert other.faults == []
    assert found.process.poll() is None
    assert counts["400"] > 50
    assert counts["200"] > 20
