"""The parser that is kept for long bodies."""

import json
from collections.abc import Iterator
from threading import Thread
from typing import Any

import numpy as np
import pytest

from batchproof.service.protocols.json_text import long_parser
from batchproof.service.protocols.json_text.fast_rows import FastRows
from batchproof.service.protocols.json_text.long_parser import KEPT_BYTES, LONG_BODY_BYTES, parser_for
from batchproof.service.protocols.oip.fast_matrix import FastMatrix
from tests.bundles import NUMBERS, signature_of

WIDTH = len(NUMBERS)


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Begin without a parser; return where it is kept."""
    found: list[Any] = []
    monkeypatch.setattr(long_parser, "_kept", found)
    return found


def test_one_parser_is_kept() -> None:
    """The next long body has the parser of the last one, and nobody else has it meanwhile."""
    with parser_for(b"{}") as first, parser_for(b"{}") as second:
        assert first is not second
    with parser_for(b"{}") as again, parser_for(b"{}") as another:
        assert again is second
        assert another is not again


def test_a_very_long_body_keeps_no_memory(kept: list[Any]) -> None:
    """The parser of a body beyond KEPT_BYTES is let go with its memory, also where another one is kept."""
    with parser_for(b" " * (KEPT_BYTES + 1)) as own:
        assert not kept
    with parser_for(b" " * KEPT_BYTES) as other:
        assert own is not other
    with parser_for(b" " * (KEPT_BYTES + 1)) as own:
        assert kept == [other]


@pytest.mark.parametrize("form", ["rows", "matrix"])
def test_a_refused_body_leaves_the_parser_free(form: str, kept: list[Any]) -> None:
    """Whatever is wrong in a long body, the next one is read by the same parser."""
    rows = [[index + place / 7 for place in range(WIDTH)] for index in range(50)]
    matrix = {"name": "features", "datatype": "FP64", "shape": [50, WIDTH], "data": rows}
    content: dict[str, Any] = {"rows": rows} if form == "rows" else {"inputs": [matrix]}
    good = json.dumps(content).encode() + b" " * LONG_BODY_BYTES
    fast, oip = FastRows(signature_of(inputs=NUMBERS)), FastMatrix(WIDTH)

    def read(body: bytes) -> np.ndarray | None:
        arrays = fast.decode(body) if form == "rows" else oip.read(body)
        return None if arrays is None else arrays[0]

    for before, after in [
        (b"]]", b"]"),
        (b"]]", b",1]]"),
        (b"]]", b",[]]]"),
        (b"]]", b"],1]"),
        (b":", b","),
        (b"[[", b"[[null,"),
    ]:
        assert good.count(before) > 0
        assert read(good.replace(before, after, 1)) is None
        found = read(good)
        assert found is not None
        assert np.array_equal(found, rows)
        assert len(kept) == 1


def test_threads_read_at_once() -> None:
    """Threads that read long bodies at the same time get their own rows."""
    fast, wrong = FastRows(signature_of(inputs=NUMBERS)), []

    def read(number: int) -> None:
        body = json.dumps({"rows": [[number] * WIDTH] * 50}).encode() + b" " * LONG_BODY_BYTES
        for _ in range(50):
            arrays = fast._plain(body)
            if arrays is None or arrays.numeric is None or not (arrays.numeric == number).all():
                wrong.append(number)

    threads = [Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
