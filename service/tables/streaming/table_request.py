"""What one request for a table asks for."""

from batchproof.service.protocols.compression import ENCODING_HEADER, encoding_of
from batchproof.service.protocols.head import ID_HEADER, RequestHead
from batchproof.service.tables.formats import CSV, JSON, TSV, Format, answer_format, table_type
from batchproof.service.tables.parameters import Parameters, parse

SHORT_BYTES = 1 << 16  # of a body that is read in a thread: it has the interpreter for 2 ms at most


class TableRequest:
    """The parameters, the formats of body and answer, and what is in the headers."""

    def __init__(self, head: RequestHead, timeout_s: float) -> None:
        """Read them, with a deadline of at most `timeout_s`; raises 400."""
        self.parameters: Parameters = parse(head.query)
        self.request_id = head.request_id
        self.grant = head.grant
        self.ids = head.ids
        self.seen = head.seen
        self.timeout_s = head.timeout_s(timeout_s)
        self.encoding = head.special.get(ENCODING_HEADER, b"")
        is_short = b"transfer-encoding" not in head.special and head.content_length <= SHORT_BYTES
        self.is_short = is_short and encoding_of(self.encoding) is None
        self.source = table_type(head.special.get(b"content-type")) or JSON
        self.target: Format = answer_format(head.special.get(b"accept"), self.source)

    def headers_for(self, model: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Return the headers of the answer."""
        charset = "; charset=utf-8" if self.target in (CSV, TSV) else ""
        media_type = (b"content-type", (self.target.media_type + charset).encode())
        return [media_type, (ID_HEADER, self.request_id.encode()), model]
