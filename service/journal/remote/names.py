"""What the name of a segment says: `penguins-1-3f2a9c04-000007.arrows` is number 7 of the chain `penguins-1-3f2a9c04`."""

from typing import NamedTuple

from batchproof.service.journal.segment import SUFFIX


class Place(NamedTuple):
    """Where a segment stands, in the order in which the segments of each chain were written."""

    chain: str
    sequence: int

    @property
    def model(self) -> str:
        """Return the name of the model; it may have hyphens itself."""
        return self.chain.rsplit("-", 2)[0]


def place_of(name: str) -> Place:
    """Return the place of a segment by its name; a name of another form is a chain of its own."""
    chain, _, number = name.removesuffix(SUFFIX).rpartition("-")
    return Place(chain, int(number)) if chain and number.isdecimal() else Place(name, 0)
