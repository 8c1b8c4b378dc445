"""What a URL may say behind its path where JSON comes and JSON is wanted.

The parameters of tables are let pass, since the routes are documented with them and they change nothing here; what a
caller must believe to be answered, a field of the body or an unknown name, is refused.
"""

from urllib.parse import parse_qsl

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.native.protocol import FIELDS
from batchproof.service.tables.parameters import CHOICES, parse

IN_THE_BODY = frozenset(FIELDS) - {*CHOICES}


def check_query(query: bytes) -> None:
    """Raise 400 for a parameter that is none; where the body has such a field, the sentence says so."""
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in IN_THE_BODY:
            sentence = f'{name} is no parameter, but a field of the JSON body: {{"rows": [...], "{name}": ...}}.'
            raise ServiceError(400, "invalid_parameter", sentence)
    parse(query)
