"""What the service and a process that reads tables tell each other: kinds of frames, the request and the table's names."""

import msgspec

REQUEST, NAMES, BATCH, REFUSAL, END = b"R", b"N", b"B", b"E", b"Z"  # kinds


class Request(msgspec.Struct, array_like=True, frozen=True):
    """What to read of which kind of table, and what reading it may take."""

    table_format: str
    names: list[str] | None  # of the columns to read; None: all
    block_rows: int
    max_bytes: int | None
    block_cpu_s: int  # processor time from one block to the next


class Names(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """The columns of a table. They come from a process that has read a stranger's bytes."""

    columns: list[str]
    index: list[str]  # those that number the rows of a data frame
