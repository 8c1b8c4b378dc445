"""How many CPU threads an operation of torch's uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Let each operation of torch's use this many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
