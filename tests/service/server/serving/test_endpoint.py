"""What one request goes through, with a codec that says when it is asked."""

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Event
from typing import Any, NoReturn

import numpy as np
import pytest

from batchproof.service.errors import CallerGoneError, ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.admission import Admission
from batchproof.service.inference.batcher import Batcher
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer, Call, Decoded
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.runtime.metrics import ModelKey, Tally
from batchproof.service.server.serving.endpoint import RAW_BYTES, SMALL_BYTES, PredictEndpoint


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


def desk(limit_rows: int = 4, executor: Executor | None = None) -> tuple[PredictEndpoint, Counting, Tally]:
    """Return an endpoint with its codec and its tally; all rows run on the loop, and `executor` serves large requests."""
    codec, tally = Counting(), Tally()
    batcher = Batcher(codec, Admission(limit_rows), ThreadPoolExecutor(1), inline_s=1.0)
    key = ModelKey("flowers", 1)
    return PredictEndpoint(key, Native(), codec, batcher, tally, 10.0, executor=executor), codec, tally


def head(*headers: tuple[bytes, bytes]) -> RequestHead:
    """Return the head of a prediction."""
    return RequestHead("POST", "/predict", b"", headers)


def test_numbers_as_bytes_are_read_at_once() -> None:
    """A body that the codec reads as numbers costs no thread until it is long, and every other body of its length does."""

    async def main() -> None:
        for readable, size in ((True, RAW_BYTES), (True, RAW_BYTES + 1), (False, RAW_BYTES)):
            answers: list[Answer] = []
            endpoint, codec, _ = desk(limit_rows=2 * RAW_BYTES)
            endpoint._decode_raw = codec.decode if readable else lambda _: None
            endpoint.handle(b"1" * size, head(), answers.append)
            assert bool(codec.decoded) is (readable and size == RAW_BYTES)
            while not answers:  # noqa: ASYNC110 - what is read apart ends in this loop
                await asyncio.sleep(0.001)
            assert answers[0].body == b"%d" % size

    asyncio.run(main())


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


class NoThreads(ThreadPoolExecutor):
    """Threads of a system that starts no more of them."""

    def submit(self, *_: Any, **__: Any) -> NoReturn:
        """Fail as the standard library does."""
        raise RuntimeError("can't start new thread")


LARGE = b"1" * (SMALL_BYTES + 1)  # rows, whose answer is written apart too


@pytest.mark.parametrize("stage", ["decode", "encode"])
def test_without_threads_a_large_request_is_refused(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where the system starts no thread, the caller gets its one answer at once, and the log has the cause."""

    async def scene() -> None:
        endpoint, _, _ = desk(10 * len(LARGE), NoThreads())
        if stage == "encode":
            endpoint._decode_good = endpoint._codec.decode
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        work = endpoint.handle(LARGE, head(), answered.set_result)
        assert (work is None) == (stage == "decode")
        assert (await asyncio.wait_for(answered, 10)).status == 500

    asyncio.run(scene())
    assert [record.message for record in caplog.records] == ["unforeseen_error"]


@pytest.mark.parametrize("stage", ["decode", "encode"])
@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (None, []),
        (CallerGoneError(), []),
        (ServiceError(400, "invalid_rows", "No."), []),
        (KeyError("x"), ["unforeseen_error"]),
    ],
    ids=str,
)
def test_a_caller_that_left_is_in_the_log_for_faults_only(
    stage: str, error: Exception | None, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """However work apart ends whose caller has left, nothing is answered, and the log has what nothing foresees, once."""
    begun, is_left = Event(), Event()

    async def scene() -> None:
        endpoint, codec, _ = desk(10 * len(LARGE))
        whole: Callable[..., Any] = getattr(codec, stage)

        def held(*parts: Any) -> Any:
            begun.set()
            assert is_left.wait(10)
            if error is not None:
                raise error
            return whole(*parts)

        setattr(codec, stage, held)
        answers: list[Answer] = []
        work = endpoint.handle(LARGE, head(), answers.append)
        assert work is not None
        assert await asyncio.to_thread(begun.wait, 10)
        endpoint.cancel(work)
        is_left.set()
        await asyncio.get_running_loop().shutdown_default_executor()
        await asyncio.sleep(0)
        assert not answers

    with caplog.at_level(logging.ERROR):
        asyncio.run(scene())
        gc.collect()  # what asyncio says of an error that nobody took, it says then
    assert [record.message for record in caplog.records] == logged


@pytest.mark.parametrize("stage", ["decode", "encode"])
def test_a_refusal_made_apart_reaches_its_caller(stage: str) -> None:
    """A large body, and a large answer, may be refused where they are read and written."""

    def refuse(*_: Any) -> NoReturn:
        raise ServiceError(413, "body_too_costly", "Send fewer rows.")

    async def scene() -> None:
        endpoint, codec, tally = desk(10 * len(LARGE))
        setattr(codec, stage, refuse)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        endpoint.handle(LARGE, head(), answered.set_result)
        assert (await asyncio.wait_for(answered, 10)).status == 413
        assert tally.refusals == {"body_too_costly": 1}

    asyncio.run(scene())
