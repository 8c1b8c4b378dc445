"""How much a table of typed columns may unpack to: piece by piece, and all together."""

from batchproof.service import errors
from batchproof.service.errors import ServiceError

PIECE_BYTES = 64 << 20  # a record batch, a Parquet page, a block of rows with all of its texts


class Unpacking:
    """What one table has unpacked to so far."""

    def __init__(self, max_bytes: int | None) -> None:
        """Allow `max_bytes` in all; None: a file of our own, which may have any size."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values = 0

    @property
    def is_bounded(self) -> bool:
        """Return whether anything is refused."""
        return self._max_bytes is not None

    def add(self, piece_bytes: int) -> None:
        """Count a piece before it is unpacked; raises 413."""
        self.check(piece_bytes)
        self._bytes += piece_bytes
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            raise errors.body_too_large(self._max_bytes)

    def check(self, piece_bytes: int) -> None:
        """Refuse with 413 a piece that alone is too large."""
        if self._max_bytes is not None and piece_bytes > PIECE_BYTES:
            raise ServiceError(
                413,
                "batch_too_large",
                f"A record batch, a page or a block of rows unpacks to {piece_bytes} bytes; at most {PIECE_BYTES} are "
                "allowed: write smaller ones.",
            )

    def add_values(self, values: int) -> None:
        """Count values that are about to be read; raises 413."""
        self._values += values
        self.check_values(self._values)

    def check_values(self, values: int) -> None:
        """Refuse with 413 a table of so many values: a run of equal ones has next to no bytes, whatever its length.

        Written out each takes a byte at least, so a table that has its size as text has no more than that.
        """
        if self._max_bytes is not None and values > self._max_bytes:
            raise ServiceError(
                413, "too_many_values", f"The table has {values} values or more; at most {self._max_bytes} are allowed."
            )
