"""Codecs in other processes: the same rows, answers and refusals as here, and no end of a process harms another request."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.decoder import Decoder
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference.model import Description
from batchproof.service.protocols.cloud.explain import Version1Explain
from batchproof.service.protocols.cloud.protocol import Version1
from batchproof.service.protocols.interface import Answer, Call, Codec, Decoded, Limits
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.protocols.oip.protocol import OpenInference
from batchproof.service.runtime.processes import process_pool
from batchproof.service.runtime.processes.frames import MESSAGE
from batchproof.service.runtime.processes.process_pool import ProcessPool
from batchproof.service.server.grpc.codec import MessageCodec
from batchproof.service.server.serving.codecs import remote_codec
from batchproof.service.server.serving.codecs.remote_codec import MODULE, CodecFailedError, RemoteCodec
from tests.bundles import INPUTS, NUMBERS, make_bundle, random_rows, signature_of
from tests.large_bodies import RPC, Kinds, LargeBody

LIMITS = Limits(max_rows=500)
ROWS = 40
MODELS = {"flowers": INPUTS, "numbers": NUMBERS}
NOT_GONE = lambda: None  # noqa: E731


@pytest.fixture(scope="module")
def descriptions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Description]:
    """Return a model with every kind of feature and one of numbers, as other processes know them."""
    models = tmp_path_factory.mktemp("models")
    found = {}
    for name, inputs in MODELS.items():
        manifest = bundle.read(make_bundle(models, name, inputs=inputs)).manifest
        found[name] = Description(manifest, Encoder(manifest.signature), Decoder(manifest), {"sha256": name})
    return found


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPool]:
    """Return processes that are ended afterwards."""
    made = ProcessPool(MODULE, 512 << 20)
    yield made
    made.close()


def kinds(model: str) -> Kinds:
    signature = signature_of(inputs=MODELS[model])
    names = [feature.name for feature in signature.inputs]
    return Kinds(model, names, lambda count: random_rows(signature, count, seed=5), ROWS, 5_000)


def codec_of(body: LargeBody, model: Description) -> tuple[Codec, Any]:
    """Return the codec of the door that a body is for, and what makes another one."""
    if body.path == RPC:
        return MessageCodec(model.manifest, LIMITS.max_rows), partial(MessageCodec, model.manifest, LIMITS.max_rows)
    protocol: Any = {"/v1": Version1, "/v2": OpenInference}.get(body.path[:3], Native)()
    return protocol.codec(model, LIMITS), partial(protocol.codec, model, LIMITS)


def outputs_of(rows: int) -> dict[str, np.ndarray]:
    """Return what a graph might give for so many rows."""
    scores = np.random.default_rng(rows).random((rows, 3)).astype(np.float32)
    return {"probabilities": scores, "scores": scores}


def outcome(codec: Any, call: Call, *more: Any) -> tuple[Decoded | None, Any]:
    """Return what a codec makes of a request: its rows and its answer, or the parts of its refusal."""
    try:
        decoded = codec.decode(call, *more)
    except ServiceError as error:
        return None, {**vars(error), "details": list(error.details)}
    status, headers, content = codec.encode(call, decoded, outputs_of(decoded.rows), *more)
    return decoded, (status, list(headers), content)


def bodies() -> list[tuple[str, LargeBody]]:
    """Return every kind of body for both models."""
    found = [("flowers", body) for body in (*kinds("flowers").good(), *kinds("flowers").bad())]
    return found + [("numbers", body) for body in (*kinds("numbers").good(), *kinds("numbers").numeric())]


@pytest.mark.parametrize(("model", "body"), bodies(), ids=lambda part: part if isinstance(part, str) else part.name)
def test_another_process_says_the_same(
    descriptions: dict[str, Description], pool: ProcessPool, model: str, body: LargeBody
) -> None:
    """Arrays have the same bits, answers the same bytes and refusals the same parts as in this process."""
    here, make = codec_of(body, descriptions[model])
    remote = RemoteCodec(pool, here, make, descriptions[model].manifest.signature, "native")
    call = Call(body.make(), [(name.encode(), value.encode()) for name, value in body.headers.items()], "id-1")
    ours, answer = outcome(here, call)
    theirs, other = outcome(remote, call, NOT_GONE)
    assert other == answer
    if ours is not None:
        assert theirs is not None
        assert (theirs.rows, theirs.added, theirs.places) == (ours.rows, ours.added, ours.places)
        for array, same in zip(theirs.arrays, ours.arrays, strict=True):
            assert (array is None) == (same is None)
            assert array is None or (array.dtype, array.tobytes()) == (same.dtype, same.tobytes())


@pytest.mark.parametrize("explain", [True, False])
def test_answers_of_rows_that_were_read_here(
    descriptions: dict[str, Description], pool: ProcessPool, *, explain: bool
) -> None:
    """A short body with a long answer: what was read in this process is written in another one, explanations too."""
    model = descriptions["numbers"]
    protocol: Any = Version1Explain() if explain else Native()
    here = protocol.codec(model, LIMITS)
    remote = RemoteCodec(pool, here, partial(protocol.codec, model, LIMITS), model.manifest.signature, "native")
    body = b'{"instances":[[1,2,3,4,5]]}' if explain else b'{"rows":[[1,2,3,4,5],[]],"on_error":"row","detail":true}'
    call = Call(body, (), "id-1")
    decoded = here.decode(call)
    outputs = outputs_of(decoded.rows)
    assert remote.encode(call, decoded, outputs, NOT_GONE).body == here.encode(call, decoded, outputs).body


class Shaped(np.ndarray):
    """An array that says it has another shape than it has."""

    def __new__(cls, shape: tuple[int, int]) -> Self:
        """Hold nothing, and say so much."""
        made = np.zeros((0, 1)).view(cls)
        made.said = shape  # type: ignore[attr-defined]
        return made

    @property
    def shape(self) -> Any:  # type: ignore[override]
        """Return what is said."""
        return getattr(self, "said", super().shape)


class Fatal:
    """A codec that does what a body says."""

    note_type = None

    def decode(self, call: Call) -> Decoded:
        """End this process, or return what the service must not believe."""
        if call.body == b"kill":
            os.kill(os.getpid(), signal.SIGSEGV)
        if call.body == b"memory":
            bytearray(1 << 40)
        if call.body == b"time":
            os.kill(os.getpid(), signal.SIGXCPU)
        if call.body == b"stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if call.body == b"terminate":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        if call.body == b"fault":
            raise KeyError("unforeseen")
        numeric = np.zeros((1, 3 if call.body == b"narrow" else 4))
        codes = np.array([[9 if call.body == b"code" else 0, 0, 0]])
        if call.body.startswith(b"{"):
            return Decoded(Arrays(numeric, codes), **json.loads(call.body))
        if call.body.startswith(b"shapes "):
            rows = int(call.body.split()[1])
            return Decoded(Arrays(*(Shaped((rows, width)) for width in (4, 3))), rows)  # type: ignore[arg-type]
        if call.body.startswith(b"refuse "):
            raise ServiceError(**{"status": 400, "code": "bad", "message": "No.", **json.loads(call.body[7:])})
        return Decoded(Arrays(numeric, codes), 2 if call.body == b"short" else 1)

    def encode(self, call: Call, decoded: Decoded, outputs: Any) -> Answer:
        """Return an answer with the request's headers, or end this process as they say."""
        if call.headers[:1] == [(b"signal", b"segv")]:
            os.kill(os.getpid(), signal.SIGSEGV)
        if call.headers[:1] == [(b"signal", b"kill")]:
            os.kill(os.getpid(), signal.SIGKILL)
        return Answer(200, call.headers, b"%d" % decoded.rows)


@pytest.fixture
def fatal(descriptions: dict[str, Description]) -> Iterator[RemoteCodec]:
    """Return a codec that ends its process, in a pool of its own."""
    pool = ProcessPool(MODULE, 256 << 20)
    yield RemoteCodec(pool, Fatal(), Fatal, descriptions["flowers"].manifest.signature, "native")
    pool.close()


def refused(codec: RemoteCodec, body: bytes) -> tuple[int, str]:
    with pytest.raises(ServiceError) as error:
        codec.decode(Call(body, (), "id-1"), NOT_GONE)
    return error.value.status, error.value.code


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"kill", (400, "broken_body")),
        (b"memory", (413, "body_too_costly")),
        (b"time", (413, "body_too_costly")),
        (b"terminate", (503, "reader_lost")),
    ],
)
def test_an_end_is_one_refusal(fatal: RemoteCodec, body: bytes, refusal: tuple[int, str]) -> None:
    """Whatever ends a process, or takes more than it may, is the refusal of its own request: the next one is answered."""
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
    assert refused(fatal, body) == refusal
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1


def test_an_unforeseen_error_is_told_with_its_place(fatal: RemoteCodec) -> None:
    """What a codec does not foresee is raised here with the traceback of there, for the log."""
    with pytest.raises(CodecFailedError, match="KeyError: 'unforeseen'"):
        fatal.decode(Call(b"fault", (), "id-1"), NOT_GONE)


UNBELIEVABLE = [
    b"narrow",
    b"code",
    b"short",
    b"shapes -1",
    b"shapes 1099511627776",  # [rows, 7] has no place in memory
    b"shapes 9223372036854775808",
    b'{"rows":1,"added":2}',
    b'{"rows":1,"added":-1}',
    b'{"rows":1,"places":[0,1]}',
    b'{"rows":1,"added":1,"places":[0]}',
    b'{"rows":1,"places":[-1]}',
    b'{"rows":1,"places":[2147483648]}',
    b'refuse {"status":200}',
    b'refuse {"status":399}',
    b'refuse {"status":600}',
    b'refuse {"code":"a\\nb"}',
    b'refuse {"code":""}',
    b'refuse {"retry_after_s":-1}',
    b'refuse {"allow":"GET\\r\\nx: y"}',
    b'refuse {"authenticate":"Bearer\\n"}',
]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"rows":1,"places":[2147483647]}', None), (b'refuse {"allow":"GET","retry_after_s":0}', 400)],
)
def test_what_is_within_bounds_is_believed(fatal: RemoteCodec, body: bytes, status: int | None) -> None:
    """The bounds refuse nothing that a codec may say."""
    if status is None:
        assert fatal.decode(Call(body, (), "id-1"), NOT_GONE).places == [2147483647]
    else:
        assert refused(fatal, body) == (status, "bad")


@pytest.mark.parametrize("body", UNBELIEVABLE)
def test_what_contradicts_itself_is_not_believed(
    fatal: RemoteCodec, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """A process that read a stranger's bytes may say anything: what no codec says goes no further."""
    monkeypatch.setattr(process_pool, "EXIT_S", 0.1)
    is_at_its_end = body.startswith(b"refuse")  # after a refusal a process ends by itself
    assert refused(fatal, body) == ((400, "broken_body") if is_at_its_end else (503, "reader_lost"))


@pytest.mark.parametrize(
    "header",
    [
        (b"a", b"b\r\nc: d"),
        (b"a", b"b\0"),
        (b"a\r\nc", b"d"),
        (b"", b"d"),
        (b"a b", b"d"),
        (b"content-length", b"0"),
        (b"Transfer-Encoding", b"chunked"),
    ],
)
def test_an_answer_changes_no_framing(
    fatal: RemoteCodec, monkeypatch: pytest.MonkeyPatch, header: tuple[bytes, bytes]
) -> None:
    """A header that begins another line or says where the answer ends does not get into an answer."""
    monkeypatch.setattr(process_pool, "EXIT_S", 0.1)
    decoded = Decoded(Arrays(None, None), 1)
    assert fatal.encode(Call(b"", [(b"a", b"b")], "id-1"), decoded, {}, NOT_GONE).headers == ((b"a", b"b"),)
    with pytest.raises(ServiceError, match="try again"):
        fatal.encode(Call(b"", [header], "id-1"), decoded, {}, NOT_GONE)


def test_a_crash_while_an_answer_is_written_is_no_fault_of_the_body(fatal: RemoteCodec) -> None:
    """The rows were good and have run: the end of the process is the service's failure, but for the memory that it took."""
    decoded = Decoded(Arrays(None, None), 1)
    with pytest.raises(CodecFailedError, match="while an answer was written: exit code -11"):
        fatal.encode(Call(b"", [(b"signal", b"segv")], "id-1"), decoded, {}, NOT_GONE)
    with pytest.raises(ServiceError, match="more memory"):
        fatal.encode(Call(b"", [(b"signal", b"kill")], "id-1"), decoded, {}, NOT_GONE)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_asks_the_service_to_stop_ends_no_work(fatal: RemoteCodec, number: signal.Signals) -> None:
    """A supervisor may signal every process of the service: the helper and its processes serve on while the service drains."""
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
    helper = fatal.pool.helper_pid
    assert helper is not None
    before = children(helper)
    for pid in (helper, *before):
        os.kill(pid, number)
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
    assert (fatal.pool.helper_pid, children(helper)) == (helper, before)


def test_the_helper_keeps_no_descriptor_of_a_message_that_is_cut(fatal: RemoteCodec) -> None:
    """Where not both descriptors of a new process arrive, the helper closes what did, and serves on."""
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
    assert fatal.pool._control is not None
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            socket.send_fds(fatal.pool._control, [MESSAGE], [theirs.fileno()])
        ours.settimeout(30)
        assert ours.recv(1) == b""
    fatal.pool.new().close()
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1


def test_a_process_that_was_killed_meanwhile_costs_nobody_an_answer(fatal: RemoteCodec) -> None:
    """A process that waits for work and is killed from outside, or its helper, is replaced without a refusal."""
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
    helper = fatal.pool.helper_pid
    assert helper is not None
    for pid in children(helper):
        os.kill(pid, signal.SIGKILL)
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
    os.kill(helper, signal.SIGKILL)
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1


def test_a_process_that_waits_long_gives_its_memory_back(fatal: RemoteCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no large body comes for a while, the processes end and no descriptor of them stays; the next body starts one."""
    fatal.pool.close()
    monkeypatch.setattr(process_pool, "IDLE_S", 0.3)
    for _ in range(2):
        assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
        helper = fatal.pool.helper_pid
        assert helper is not None
        process = fatal.pool._idle[0]
        assert children(helper)
        deadline_s = time.monotonic() + 30
        while children(helper) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert not children(helper)
        assert process.connection.fileno() == -1
        assert fatal.pool.helper_pid == helper


def test_a_caller_that_leaves_ends_the_work(fatal: RemoteCodec) -> None:
    """While a process is at work it is asked whether anybody waits; where nobody does, it is ended."""

    def gone() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        fatal.decode(Call(b"stop", (), "id-1"), gone)
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1


def test_a_process_knows_few_codecs(
    fatal: RemoteCodec, descriptions: dict[str, Description], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models that come and go leave no codecs behind: a process that knows many is replaced."""
    monkeypatch.setattr(remote_codec, "MOST_CODECS", 2)
    signature = descriptions["flowers"].manifest.signature
    assert fatal.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
    (first,) = fatal.pool._idle
    other = RemoteCodec(fatal.pool, Fatal(), Fatal, signature, "native")
    assert other.decode(Call(b"good", (), "id-1"), NOT_GONE).rows == 1
    assert first not in fatal.pool._idle
