"""How much memory this process may take, by its control group, its own limits and the machine; and giving some back."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

GROUPS = (  # of control groups, version 2 and version 1, as a container sees its own
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT]I?)B?|B)\s*", re.IGNORECASE)


def size_bytes(text: str) -> int:
    """Return the bytes in a size such as 4GB, 512MB or 8GiB; raises ValueError for another text, and for none.

    A number without a unit is refused: who writes 4 rarely means four bytes.
    """
    match = SIZE.fullmatch(text)
    size = 0 if match is None else int(float(match[1]) * UNITS[(match[2] or "").upper()])
    if size < 1:
        raise ValueError(f"{text!r} is no size of memory: write a number and its unit, such as 4GB, 512MB or 8GiB.")
    return size


def limit_bytes(groups: Iterable[Path] = GROUPS) -> int:
    """Return the least of the bounds on this process's memory."""
    import resource  # Windows has none, and serves nothing

    bounds = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            bounds.append(soft)
    for path in groups:
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdecimal():  # "max" where there is none
            bounds.append(int(text))
    return min(bounds)


def give_back() -> None:
    """Return memory that was freed to the system, where the C library can do so: glibc keeps it for each thread."""
    import ctypes  # a service that never reloads does not need it

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
