"""The formats of tables: what they are called in requests, how files of them end, and what they need."""

from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

from batchproof.installation import hint
from batchproof.service.errors import ServiceError
from batchproof.service.protocols.accept import preferred


class Format(NamedTuple):
    """One way of writing a table."""

    name: str
    media_type: str  # of an answer in this format
    also: tuple[str, ...]  # other names of it that requests use
    suffixes: tuple[str, ...]
    needs_pyarrow: bool = False
    # What begins the last line of an answer that broke off, before the error as JSON; None where the format has no
    # place for one: such an answer is cut off, and cannot be read.
    broken: bytes | None = None


ROWLESS = b"#error "  # a line that is not a row of the table
CSV = Format("csv", "text/csv", ("application/csv",), (".csv", ".txt"), broken=ROWLESS)
TSV = Format("tsv", "text/tab-separated-values", (), (".tsv", ".tab"), broken=ROWLESS)
LINES = Format(
    "jsonl",
    "application/jsonlines",
    ("application/x-ndjson", "application/x-jsonlines", "application/jsonl", "application/ndjson"),
    (".jsonl", ".ndjson"),
    broken=b"",
)
ARROW_STREAM = Format("arrow_stream", "application/vnd.apache.arrow.stream", (), (".arrows",), needs_pyarrow=True)
ARROW_FILE = Format("arrow_file", "application/vnd.apache.arrow.file", (), (".arrow", ".feather", ".ipc"), True)
PARQUET = Format(
    "parquet", "application/vnd.apache.parquet", ("application/x-parquet",), (".parquet", ".pq"), needs_pyarrow=True
)
JSON = Format("json", "application/json", (), ())

IN_REQUESTS = (CSV, TSV, LINES, ARROW_STREAM, PARQUET)
IN_FILES = (*IN_REQUESTS, ARROW_FILE)
BY_MEDIA_TYPE = {name: one for one in IN_REQUESTS for name in (one.media_type, *one.also)}
PLAIN = frozenset({None, b"application/json", b"*/*"})  # of nearly all requests: looked up, not parsed
BY_SUFFIX = {suffix: one for one in IN_FILES for suffix in one.suffixes}


def media_type(value: bytes | None) -> str:
    """Return a Content-Type in lower case and without its parameters."""
    return (value or b"").partition(b",")[0].partition(b";")[0].strip().lower().decode("latin-1")


def table_type(value: bytes | None) -> Format | None:
    """Return the format that a Content-Type names; None where it names no table."""
    return None if value is None else BY_MEDIA_TYPE.get(media_type(value))


def wants_table(found: Mapping[bytes, bytes]) -> bool:
    """Return whether the headers Content-Type and Accept in `found` name a table for the body or for the answer."""
    given, wanted = found.get(b"content-type"), found.get(b"accept")
    if given in PLAIN and wanted in PLAIN:
        return False
    return table_type(given) is not None or answer_format(wanted, JSON) is not JSON


def answer_format(accept: bytes | None, usual: Format) -> Format:
    """Return the format that Accept prefers, `usual` where it prefers none."""
    chosen = preferred(accept, (usual.media_type, JSON.media_type, *BY_MEDIA_TYPE))
    return usual if chosen is None else BY_MEDIA_TYPE.get(chosen, JSON)


def pyarrow(wanted: Format) -> ModuleType:
    """Return pyarrow, loaded on first use; raises 415 where it is not installed."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ServiceError(
            415,
            "not_installed",
            f"{wanted.media_type} needs pyarrow, which is not installed here: {hint('tables')}.",
        ) from error
    module: ModuleType = pa
    return module
