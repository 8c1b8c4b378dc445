"""What a store of bundles must be able to do, and how it fails."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from batchproof.service.errors import BundleError

MANIFEST = "bundle.json"


class StoreError(BundleError):
    """A place that does not answer, or has no such file. The text is a sentence without its full stop."""


class MissingError(StoreError):
    """A file that is not there."""


class Store(Protocol):
    """Folders of files at an address. Used by one thread of a process that makes no other use of the network."""

    def folders(self) -> Sequence[str]:
        """Return the folders, relative to the address, that hold a bundle.json; "" is the address itself."""

    def fetch(self, folder: str, name: str, target: Path, max_bytes: int) -> None:
        """Write the file `name` of a folder to `target`; raises StoreError, also where it has more than `max_bytes`."""


def too_long(name: str, max_bytes: int) -> StoreError:
    """Return the refusal of a file that is longer than it may be."""
    return StoreError(f"{name} has more than the allowed {max_bytes} bytes")


def is_pattern(name: str) -> bool:
    """Return whether a name has signs of a pattern."""
    return not set("*?[").isdisjoint(name)
