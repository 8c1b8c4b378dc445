"""What differs from system to system: Linux serves, Linux, macOS and Windows train, predict and check."""

import os
import sys
from pathlib import Path


def cores() -> int:
    """Return how many cores this process may use; where the system does not say, how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a loss of power. Windows opens no folder, and keeps names with their files."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def can_confine() -> bool:
    """Return whether a child process can be held to bounds of memory and time here: only Linux has all that this takes."""
    return sys.platform == "linux"
