"""What one request for a table asks for."""

from batchproof.service.protocols.compression import header
from batchproof.service.protocols.head import ID_HEADER, TIMEOUT_HEADER, parse_timeout, request_id_of, special
from batchproof.service.protocols.interface import Headers
from batchproof.service.tables.formats import CSV, JSON, TSV, Format, table_type
from batchproof.service.tables.parameters import Parameters, parse


class TableRequest:
    """The parameters, the formats of body and answer, and what is in the headers."""

    def __init__(self, query: bytes, headers: Headers, timeout_s: float) -> None:
        """Read them; raises 400."""
        found = special(headers)
        self.parameters: Parameters = parse(query)
        self.request_id = request_id_of(found)
        self.timeout_s = parse_timeout(found[TIMEOUT_HEADER], timeout_s) if TIMEOUT_HEADER in found else timeout_s
        self.encoding = header(headers, b"content-encoding") or b""
        self.source = table_type(header(headers, b"content-type")) or JSON
        accept = header(headers, b"accept") or b""
        is_json = accept.partition(b";")[0].strip() == JSON.media_type.encode()
        self.target: Format = JSON if is_json else table_type(accept) or self.source

    def headers_for(self, model: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Return the headers of the answer."""
        charset = "; charset=utf-8" if self.target in (CSV, TSV) else ""
        media_type = (b"content-type", (self.target.media_type + charset).encode())
        return [media_type, (ID_HEADER, self.request_id.encode()), model]
