"""The threads beside the engine: in order, bounded, and no work on what is broken."""

import threading
import time
from collections.abc import Iterator

import pytest

from batchproof.service.tables.offline.threads import InOrder, Prefetch, WriteBehind


def test_items_come_in_order_and_a_fault_in_its_place() -> None:
    """What was made before a fault is taken first; the fault is raised where its item would have been."""

    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("broken")

    with Prefetch(items(), 3) as ahead:
        taken = iter(ahead)
        assert [next(taken) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="broken"):
            next(taken)


def test_no_more_than_the_depth_is_made_ahead() -> None:
    """While nothing is taken, exactly `depth` items are made."""
    made: list[int] = []
    enough = threading.Event()

    def items() -> Iterator[int]:
        for number in range(1, 100):
            made.append(number)
            if number == 3:
                enough.set()
            yield number

    with Prefetch(items(), 3):
        assert enough.wait(20)
    assert made == [1, 2, 3]  # the thread has ended


def test_work_is_done_in_order_and_bounded() -> None:
    """Pieces are done one after another; handing over waits while `depth` of them wait."""
    done: list[int] = []
    free = threading.Event()
    with WriteBehind(2) as behind:
        behind.put(lambda: done.append(int(free.wait(20)) - 1))
        behind.put(lambda: done.append(1))
        assert done == []
        free.set()
        behind.put(lambda: done.append(2))
        behind.finish()
    assert done == [0, 1, 2]


def test_nothing_is_done_after_a_piece_failed() -> None:
    """A part with a hole must not be finished: what follows a failed piece is not begun, and the failure is told."""
    done: list[int] = []

    def fail() -> None:
        raise OSError("no space")

    with WriteBehind(4) as behind:
        behind.put(fail)
        behind.put(lambda: done.append(1))
        with pytest.raises(OSError, match="no space"):
            behind.finish()
    assert done == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_their_items(threads: int) -> None:
    """However long each item takes, results come in the items' order, and no more items are begun than are worked on."""
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.002 if item % 3 else 0.01)
        return item * item

    with InOrder(iter(range(30)), work, threads) as results:
        for place, result in enumerate(results):
            assert result == place * place
            assert len(begun) <= place + 2 + threads


def test_an_item_that_fails_fails_in_its_place() -> None:
    """What working on an item raises comes after the results before it, and nothing more is begun then."""

    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    seen: list[int] = []
    with pytest.raises(ValueError, match="three"), InOrder(iter(range(1000)), work, 2) as results:
        seen.extend(results)
    assert seen == [0, 1, 2]
