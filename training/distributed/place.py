"""Which process of how many this one is: read from the environment, as torchrun, Ray and Spark set it. Loads no torch."""

import os
from dataclasses import dataclass
from pathlib import Path

from batchproof.training.option_groups import PROCESSES
from batchproof.training.settings import SettingError, Settings

STORE = "BATCHPROOF_STORE"  # set by `launch`: the file by which the processes of one machine find one another
LAUNCHED = ("RANK", "WORLD_SIZE")


@dataclass(frozen=True)
class Place:
    """One process of a run."""

    rank: int  # 0 for the first, which alone writes and talks
    size: int
    local_rank: int = 0  # among those on this machine: the number of its GPU
    store: Path | None = None  # None: they find one another at MASTER_ADDR and MASTER_PORT

    @property
    def first(self) -> bool:
        """Whether this process writes and talks."""
        return self.rank == 0


def launched() -> bool:
    """Return whether a launcher started this process as one of a run."""
    return all(os.environ.get(name) for name in LAUNCHED)


def talks() -> bool:
    """Return whether this process prints: the first of a run, one that trains alone, or one whose place in a run is wrong."""
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    is_other = rank.isdecimal() and int(rank) > 0 and (not size.isdecimal() or int(rank) < int(size))
    return not launched() or not is_other


def on_this_machine() -> int:
    """Return how many processes of the run share this machine, as far as the launcher says."""
    size = os.environ.get("LOCAL_WORLD_SIZE") or (os.environ.get("WORLD_SIZE", "") if os.environ.get(STORE) else "")
    return max(1, int(size)) if launched() and size.isdecimal() else 1


def check_count(processes: int | None) -> None:
    """Refuse a number of processes that cannot share the shards equally: SettingError."""
    if processes not in (None, *PROCESSES):
        raise SettingError(f"--processes is {processes}: use 1, 2, 4 or 8, which share 8 shards equally.")


def place_of(settings: Settings) -> Place | None:
    """Return this process's place in its run; None: it trains alone, without shards. Raises SettingError."""
    if not launched() and settings.processes is None:
        return None
    check_count(settings.processes)
    place = _launched_place(settings.processes) if launched() else Place(0, 1)
    if not launched() and settings.processes != 1:
        raise SettingError("--processes starts processes on the command line only; a program of yours needs torchrun.")
    if settings.threads not in (None, 1):
        raise SettingError(
            f"--threads is {settings.threads}, but several processes compute on one thread each: leave it out."
        )
    if settings.tune or settings.time_budget_s:
        raise SettingError(
            "--tune and --time-budget-s search in one process: search without --processes, then set what was found."
        )
    return place


def _launched_place(processes: int | None) -> Place:
    rank, size, local_rank = (number_of(name) for name in (*LAUNCHED, "LOCAL_RANK"))
    if size not in PROCESSES:
        raise SettingError(f"this run has {size} processes: 1, 2, 4 or 8 can share the 8 shards of a batch equally.")
    if rank >= size:
        raise SettingError(f"RANK is {rank} in a run of {size} processes: it must be below WORLD_SIZE.")
    if processes not in (None, size):
        raise SettingError(f"--processes is {processes}, but this run has {size} (WORLD_SIZE): leave --processes out.")
    store = os.environ.get(STORE)
    return Place(rank, size, local_rank, Path(store) if store else None)


def number_of(name: str) -> int:
    """Return the whole number in an environment variable, 0 where it is not set; raises SettingError for another text."""
    text = os.environ.get(name) or "0"
    if not text.isdecimal():
        raise SettingError(f"the environment variable {name} is {text!r}: it must be a whole number.")
    return int(text)
