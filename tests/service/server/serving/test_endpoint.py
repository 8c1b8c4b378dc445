"""What one request goes through, with a codec that says when it is asked."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.admission import Admission
from batchproof.service.inference.batcher import Batcher
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer, Call, Decoded
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.runtime.metrics import ModelKey, Tally
from batchproof.service.server.serving.endpoint import PredictEndpoint


class Counting:
    """A codec whose bodies are as many rows as they have bytes, and a runner that returns what it gets."""

    def __init__(self) -> None:
        self.decoded: list[bytes] = []

    def decode(self, call: Call) -> Decoded:
        """Take each byte for a row."""
        self.decoded.append(call.body)
        return Decoded(Arrays(np.zeros((len(call.body), 1)), None), len(call.body))

    def encode(self, call: Call, decoded: Decoded, outputs: Mapping[str, np.ndarray]) -> Answer:
        """Say how many rows ran."""
        return Answer(200, (), b"%d" % len(outputs["value"]))

    def run(self, requests: Any) -> list[dict[str, np.ndarray]]:
        """Return the rows."""
        return [{"value": arrays.numeric} for arrays in requests]


def desk(limit_rows: int = 4) -> tuple[PredictEndpoint, Counting, Tally]:
    """Return an endpoint with its codec and its tally; everything runs on the loop."""
    codec, tally = Counting(), Tally()
    batcher = Batcher(codec, Admission(limit_rows), ThreadPoolExecutor(1), inline_s=1.0)
    return PredictEndpoint(ModelKey("flowers", 1), Native(), codec, batcher, tally, 10.0), codec, tally


def head(*headers: tuple[bytes, bytes]) -> RequestHead:
    """Return the head of a prediction."""
    return RequestHead("POST", "/predict", b"", headers)


def test_a_full_queue_refuses_before_it_decodes() -> None:
    """When there is no place, a refusal costs no reading of the body, and it is counted."""

    async def scene() -> None:
        endpoint, codec, tally = desk()
        answers: list[Answer] = []
        for body in (b"1234", b"5", b"6"):
            endpoint.handle(body, head(), answers.append)
        assert [answer.status for answer in answers] == [429, 429]
        assert (b"retry-after", b"1") in answers[0].headers
        assert codec.decoded == [b"1234"]
        assert tally.refusals == {"overloaded": 2}
        await asyncio.sleep(0)
        assert answers[2].body == b"4"

    asyncio.run(scene())


def test_a_long_body_is_refused_by_its_length() -> None:
    """What a whole request would get is known from its headers: no place, or a deadline that is none."""

    async def scene() -> None:
        endpoint, _, _ = desk()
        endpoint.check_room(10**6, head())
        endpoint.handle(b"1234", head(), lambda _: None)
        with pytest.raises(ServiceError, match="no place"):
            endpoint.check_room(10**6, head())
        with pytest.raises(ServiceError, match="must be a number of seconds"):
            endpoint.check_room(10**6, head((b"x-request-timeout-s", b"soon")))

    asyncio.run(scene())
