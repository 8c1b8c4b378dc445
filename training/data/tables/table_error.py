"""What a table is refused with."""


class TableError(ValueError):
    """A table that cannot be trained on; the message is one sentence for its owner."""
