"""The SIMD parser of long bodies: one is kept, because most of its megabytes would else be new pages for each body."""

from collections.abc import Iterator
from contextlib import contextmanager

import simdjson

LONG_BODY_BYTES = 1 << 16  # shorter bodies are read on the event loop, each by the parser of its own reader
KEPT_BYTES = 1 << 20  # of the longest body whose parser is kept: it has up to 14 bytes of memory for each of them
_kept: list[simdjson.Parser] = []


@contextmanager
def parser_for(body: bytes) -> Iterator[simdjson.Parser]:
    """Give a parser of a long body to one thread; what it parsed must be let go of before the end."""
    if len(body) > KEPT_BYTES:
        yield simdjson.Parser()
        return
    try:
        parser = _kept.pop()  # nobody else has it now
    except IndexError:
        parser = simdjson.Parser()
    try:
        yield parser
    finally:
        if not _kept:
            _kept.append(parser)
