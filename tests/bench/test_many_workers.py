"""The model of many workers: its arithmetic, and what it says of figures that were measured."""

import os
import threading
import time
from dataclasses import replace

import pytest

from bench import many_workers
from bench.many_workers import Costs, Rate, bound_here, predicted

COSTS = Costs(8, 1.0, 2.0, 400.0, 0.001, 0.01, 0.03, 0.01, 250e-6)


def test_workers_add_up_less_what_they_use_themselves() -> None:
    """Eight workers of 100 µs a request give 80 000, less one percent each and the scrapes' share of one."""
    scrapes = 0.03 / 15 / 100e-6

    assert predicted(8, COSTS, 100e-6) == pytest.approx(80_000 * 0.99 - scrapes)
    assert predicted(8, replace(COSTS, worker_idle=0.0, scrape_s=0.0), 100e-6) == pytest.approx(80_000)


@pytest.mark.parametrize(("workers", "bound"), [(1, 10_000), (2, 2 / 125e-6)])
def test_the_generator_needs_the_cores_too(workers: int, bound: float) -> None:
    """One worker is the limit while there is a core for the generator; two share two cores with it."""
    assert bound_here(Rate(workers, 0.0, 100e-6, 5e-6, 20e-6), 2) == pytest.approx(bound)


def test_the_report_says_where_the_supervisor_ends() -> None:
    """The sentence of a number of workers has the rate, and the connections that fill one core of the supervisor."""
    lines = many_workers.report([COSTS], [Rate(2, 9000.0, 100e-6, 0.0, 20e-6)], {"accept": 75e-6}, 2)

    assert any("8 workers on 8 cores" in line and "ends at 4,000 new connections/s" in line for line in lines)
    assert any(line.startswith("| 2 | 9,000 | 100.0 | 0.0 | 20.0 | 16,667 | 0.54 |") for line in lines)
    assert "Kernel and Python, accept: 75.0 µs" in lines


def test_processor_time_is_that_of_all_threads() -> None:
    """Work of a second thread counts, and a process that has ended counts nothing."""
    worked, leave = threading.Event(), threading.Event()
    own = time.process_time()
    before = many_workers.cpu_s([os.getpid()])
    thread = threading.Thread(target=_work, args=(worked, leave))
    thread.start()
    worked.wait()
    seen = many_workers.cpu_s([os.getpid()])  # a thread that has ended is no longer listed
    leave.set()
    thread.join()

    assert 0.19 < seen - before < time.process_time() - own + 0.01
    assert many_workers.cpu_s([2**22 + 1]) == 0


def _work(worked: threading.Event, leave: threading.Event) -> None:
    end_s = time.thread_time() + 0.2
    while time.thread_time() < end_s:
        pass
    worked.set()
    leave.wait()
