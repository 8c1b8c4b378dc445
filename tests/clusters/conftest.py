"""How the run of these tests ends."""

import os
import sys

import pytest

EXIT_CODE = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the exit code."""
    session.config.stash[EXIT_CODE] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave at once, with the code of the tests: fixtures have stopped all engines by now.

    One process loads Ray, Spark's client, Dask, Arrow and PyTorch here. After a run in which all tests passed, a thread of one
    of these libraries crashed while the interpreter was taken down.
    """
    if EXIT_CODE in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[EXIT_CODE])
