"""ModelInfer: messages to rows, rows through the queues that HTTP fills too, and outputs to answers.

A small message is read on the event loop. A large one is read in another process, as large bodies over HTTP are, or in a
thread where that takes a few milliseconds.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference import async_run
from batchproof.service.inference.model import Model
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Decoded
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.server.grpc.codec import MessageCodec, model_of, parsed
from batchproof.service.server.grpc.tensors import is_quick
from batchproof.service.server.serving.app import App
from batchproof.service.server.serving.codecs.large_requests import LargeCall
from batchproof.service.server.serving.codecs.remote_codec import RemoteCodec
from batchproof.service.server.serving.deployment import Deployment
from batchproof.service.server.serving.endpoint import SMALL_BYTES, SMALL_ROWS

ROUTE = "grpc"  # in metrics and in the log
QUICK_BYTES = 1 << 16  # of a message of raw numbers that is read on the event loop
PARSED_BYTES = 1 << 19  # of a message that is parsed on the event loop: some milliseconds, whatever is in it

Found = TypeVar("Found")


class _Codecs(NamedTuple):
    here: MessageCodec
    remote: RemoteCodec


class InferService:
    """The method for what one process serves."""

    def __init__(
        self, app: App, messages: Mapping[str, Any], find_model: Callable[[RequestHead, str, str], Model]
    ) -> None:
        """Answer with the classes of `messages`, for models that `find_model` lets a caller use."""
        self._app = app
        self._messages = messages
        self._find_model = find_model
        self._known: WeakKeyDictionary[Deployment, _Codecs] = WeakKeyDictionary()

    async def infer(self, head: RequestHead, request: bytes, context: Any) -> bytes:
        """Return the answer's bytes; raises ServiceError."""
        started_s = time.perf_counter()
        message = parsed(self._messages, "ModelInfer", request) if len(request) <= PARSED_BYTES else None
        if message is None:
            name, version = await self._apart(model_of, request)
        else:
            name, version = message.model_name, message.model_version
        model = self._find_model(head, name, version)
        deployment = self._app.deployments[ModelKey(model.manifest.name, model.manifest.version)]
        if head.seen is not None:
            head.seen.key = deployment.key
        call = LargeCall(request, (), head.request_id)
        try:
            return await self._infer(deployment, call, message, head, context, started_s)
        except asyncio.CancelledError:
            call.is_gone = True  # what runs apart ends
            raise
        except ServiceError as error:
            deployment.meter.tally(ROUTE).refused(error.code)
            raise

    async def _infer(
        self, deployment: Deployment, call: LargeCall, message: Any, head: RequestHead, context: Any, started_s: float
    ) -> bytes:
        tally, journal, settings = deployment.meter.tally(ROUTE), deployment.journal, self._app.settings
        if journal is not None and not journal.is_chosen():
            journal = None
        if journal is not None:
            journal.check_room()
        codecs, seen = self._codecs_of(deployment), head.seen
        decoded = await self._decoded(codecs, call, message)
        decoded_s = time.perf_counter()
        tally.decode_s += decoded_s - started_s
        if seen is not None:
            seen.stage("decode", started_s, decoded_s)
        if head.grant is not None:
            head.grant.charge(decoded.rows)
        timeout_s = min(context.time_remaining() or settings.timeout_s, settings.timeout_s)
        note = None if journal is None else journal.note(head, ROUTE, decoded.rows)
        outputs = await async_run.run(deployment.batcher, decoded.arrays, decoded.rows, timeout_s, note, seen)
        encoding_s = time.perf_counter()
        answer = await self._encoded(codecs, call, decoded, outputs)
        tally.answered(decoded.rows, encoding_s, started_s)
        if seen is not None:
            seen.rows = decoded.rows
            seen.stage("encode", encoding_s, time.perf_counter())
            if seen.context is not None:
                tally.exemplify(started_s, seen.context.ids)
        return answer

    async def _decoded(self, codecs: _Codecs, call: LargeCall, message: Any) -> Decoded:
        size = len(call.body)
        is_raw = message is not None and is_quick(message)
        if message is not None and size <= (QUICK_BYTES if is_raw else SMALL_BYTES):
            return codecs.here.read(message)
        if message is not None and (is_raw or size <= QUICK_BYTES):
            return await self._apart(codecs.here.read, message)
        return await self._apart(codecs.remote.decode, call, call.go_on)

    async def _encoded(self, codecs: _Codecs, call: LargeCall, decoded: Decoded, outputs: Outputs) -> bytes:
        if codecs.remote.is_for(decoded, outputs):
            return (await self._apart(codecs.remote.encode, call, decoded, outputs, call.go_on)).body
        if decoded.rows > SMALL_ROWS:
            return (await self._apart(codecs.here.encode, call, decoded, outputs)).body
        return codecs.here.encode(call, decoded, outputs).body

    async def _apart(self, work: Callable[..., Found], *arguments: Any) -> Found:
        """Do work in a thread."""
        executor = self._app.shared.reading_executor
        return await asyncio.get_running_loop().run_in_executor(executor, work, *arguments)

    def _codecs_of(self, deployment: Deployment) -> _Codecs:
        codecs = self._known.get(deployment)
        if codecs is None:
            manifest, max_rows = deployment.model.manifest, self._app.settings.max_rows
            here = MessageCodec(manifest, max_rows, self._messages)
            make = partial(MessageCodec, manifest, max_rows)
            remote = RemoteCodec(self._app.shared.codec_processes(), here, make, manifest.signature, ROUTE)
            codecs = self._known[deployment] = _Codecs(here, remote)
        return codecs
