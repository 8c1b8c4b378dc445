"""The gRPC server: it runs on the loop that answers HTTP, and its rows wait in the same queues and share the same runs.

A call passes the gate that HTTP requests pass, with its metadata as headers, before its message is received.

Several workers listen on one port by SO_REUSEPORT: the kernel gives each connection to one of them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

import grpc
import grpc.aio

import batchproof
from batchproof.service import errors
from batchproof.service.errors import ServiceError
from batchproof.service.inference.model import Model
from batchproof.service.protocols.head import ID_HEADER, SHORT_BODY_BYTES, RequestHead
from batchproof.service.protocols.oip.metadata import inputs_of, model_of, outputs_of
from batchproof.service.runtime.logs import event
from batchproof.service.server.grpc.codec import parsed
from batchproof.service.server.grpc.health import HEALTH_SERVICE, HealthService
from batchproof.service.server.grpc.inference import ROUTE, InferService
from batchproof.service.server.grpc.messages import SERVICE, classes
from batchproof.service.server.grpc.peers import RpcSenders, credentials, needs_certificate
from batchproof.service.server.grpc.repository import RepositoryService
from batchproof.service.server.serving.app import App
from batchproof.service.server.serving.gate import Gate, RpcMethod
from batchproof.service.server.serving.in_flight import Share

STATUS = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
ID = ID_HEADER.decode()
INFER = "ModelInfer"  # its messages may be large, and go to its service as bytes


class RpcServer:
    """The protocol's methods for what a service has loaded. Made on the running loop."""

    def __init__(self, app: App, gate: Gate) -> None:
        """Bind the port; raises RuntimeError where it cannot be had."""
        settings = app.settings
        self._app = app
        self._gate = gate
        self._observer = app.shared.observer
        self._knows_certificates = app.tls is not None and needs_certificate(settings)
        self._senders = RpcSenders(
            settings, has_certificates=self._knows_certificates, is_observed=self._observer is not None
        )
        self._messages = classes()
        self._inference = InferService(app, self._messages, self._model)
        self._repository = RepositoryService(app, self._messages)
        self._health = HealthService(app, self._messages["CheckResponse"])
        self._handlers = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            INFER: self._inference.infer,
            "RepositoryIndex": self._repository.index,
            "RepositoryModelLoad": self._repository.load,
            "RepositoryModelUnload": self._repository.unload,
            "Check": self._health.check,
        }
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", app.shared.limits.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.server_handshake_timeout_ms", max(1, int(settings.read_timeout_s * 1000))),
                ("grpc.so_reuseport", int(settings.workers > 1)),
            ]
        )
        self._server.add_generic_rpc_handlers((_Gated(self),))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port}"
        if app.tls is None:
            self._server.add_insecure_port(address)
        else:
            self._server.add_secure_port(address, credentials(app.tls, needs_client=self._knows_certificates))

    async def start(self) -> None:
        """Take calls."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and end those that are open after `grace_s`."""
        self._health.end()
        await self._server.stop(grace_s)

    def method(self, path: str, metadata: Iterable[tuple[str, str | bytes]]) -> Any:
        """Return what handles a call, whose message is not received yet; None for a method that there is not."""
        service, _, name = path.removeprefix("/").rpartition("/")
        head = RequestHead("POST", path, b"", [(key.encode(), _as_bytes(value)) for key, value in metadata])
        if self._observer is not None:
            self._observer.begin(head)
        if self._knows_certificates:
            return grpc.stream_stream_rpc_method_handler(partial(self._certified, head, service, name))
        error = self._gate.check(head, RpcMethod(name))
        if error is not None:  # as a stream of messages, of which none is awaited
            return grpc.stream_stream_rpc_method_handler(partial(self._refuse, head, name, error))
        if not self._has(service, name):
            return None
        if name == "Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch, response_serializer=self._serializer("Check"))
        return grpc.unary_unary_rpc_method_handler(
            partial(self._answer, head, name), response_serializer=self._serializer(name)
        )

    async def _certified(self, head: RequestHead, service: str, name: str, _messages: Any, context: Any) -> None:
        """Answer a call whose caller may be known by its certificate, which only the open call tells.

        It is a stream, so that the gate is asked before a message is awaited; for callers it is the same on the wire.
        """
        head.sender = self._senders.of(context)
        error = self._gate.check(head, RpcMethod(name))
        if error is not None:
            await self._abort(head, name, error, time.perf_counter(), context)
        if not self._has(service, name):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        request = await context.read()
        if request is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{name} takes one message; none was sent.")
        if name == "Watch":
            serialize = self._serializer("Check")
            async for status in self._watch(request, context):
                await context.write(serialize(status))
        else:
            await context.write(self._serializer(name)(await self._answer(head, name, request, context)))

    def _has(self, service: str, name: str) -> bool:
        if name in ("Check", "Watch"):
            return service == HEALTH_SERVICE
        return service == SERVICE and name in self._handlers

    def _serializer(self, name: str) -> Any:
        if name == INFER:  # answered with bytes
            return bytes
        return self._messages[f"{name}Response"].SerializeToString

    def _parsed(self, name: str, request: bytes) -> Any:
        """Return a call's message, or its bytes where it holds rows; raises ServiceError (400, 413)."""
        if name == INFER:
            return request
        if len(request) > SHORT_BODY_BYTES:
            raise errors.body_too_large(SHORT_BODY_BYTES)
        return parsed(self._messages, name, request)

    async def _watch(self, request: bytes, context: Any) -> AsyncIterator[Any]:
        try:
            message = self._parsed("Check", request)
        except ServiceError as error:
            await context.abort(STATUS.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), error.message)
        async for status in self._health.watch(message, context):
            yield status

    async def _answer(self, head: RequestHead, name: str, request: bytes, context: Any) -> Any:
        """Answer one call, or abort it with the status that clients of the protocol know; log as HTTP does."""
        started_s = time.perf_counter()
        head.sender = self._senders.of(context)
        context.set_trailing_metadata(((ID, head.request_id),))
        if head.seen is not None:
            head.seen.bytes_in = len(request)
        try:
            with Share(self._app.shared.in_flight) as share:
                share.take(len(request))
                answered = await self._handlers[name](head, self._parsed(name, request), context)
        except ServiceError as error:
            await self._abort(head, name, error, started_s, context)
        except Exception as error:  # noqa: BLE001 - logged and counted, and its caller gets an answer
            refusal = self._app.unforeseen("a gRPC call", error, head.ids)
            await self._abort(head, name, refusal, started_s, context)
        except asyncio.CancelledError:
            self._end(head, name, 0, started_s, grpc.StatusCode.CANCELLED)
            raise
        if head.seen is not None:
            head.seen.bytes_out = len(answered) if name == INFER else answered.ByteSize()
        self._end(head, name, 200, started_s, grpc.StatusCode.OK)
        return answered

    async def _refuse(self, head: RequestHead, name: str, error: ServiceError, _messages: Any, context: Any) -> None:
        head.sender = self._senders.of(context)
        await self._abort(head, name, error, time.perf_counter(), context)

    async def _abort(self, head: RequestHead, name: str, error: ServiceError, started_s: float, context: Any) -> None:
        if error.status >= 500:
            event("request_failed", 40, **head.ids, route=ROUTE, code=error.code)
        status = STATUS.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
        self._end(head, name, error.status, started_s, status, error.code)
        wait = () if error.retry_after_s is None else (("retry-after", str(error.retry_after_s)),)
        context.set_trailing_metadata(((ID, head.request_id), *wait))
        await context.abort(status, error.message)

    def _end(
        self, head: RequestHead, name: str, status: int, started_s: float, rpc_status: Any, code: str | None = None
    ) -> None:
        """Log and trace the end of a call where it is observed; `status` is that of HTTP."""
        if self._observer is not None:
            where = {"route": ROUTE, "method": name}
            self._observer.end(head, status, where, started_s, code, rpc_status.name)

    async def _server_live(self, head: RequestHead, request: Any, context: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    async def _server_ready(self, head: RequestHead, request: Any, context: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=self._app.is_ready)

    async def _model_ready(self, head: RequestHead, request: Any, context: Any) -> Any:
        self._model(head, request.name, request.version)
        return self._messages["ModelReadyResponse"](ready=self._app.is_ready)

    async def _server_metadata(self, head: RequestHead, request: Any, context: Any) -> Any:
        return self._messages["ServerMetadataResponse"](name="batchproof", version=batchproof.__version__)

    async def _model_metadata(self, head: RequestHead, request: Any, context: Any) -> Any:
        manifest = self._model(head, request.name, request.version).manifest
        return self._messages["ModelMetadataResponse"](
            name=manifest.name,
            versions=[str(version) for version in sorted(self._app.registry.models[manifest.name])],
            platform="onnxruntime_onnx",
            inputs=inputs_of(manifest),
            outputs=outputs_of(manifest),
        )

    def _model(self, head: RequestHead, name: str, version: str) -> Model:
        """Return the model that a message names, where the caller may use it; raises ServiceError."""
        name = self._app.real_name(name)
        known = self._app.server_info if head.grant is None else self._app.server_info.only(head.grant.covers)
        if head.grant is not None:
            head.grant.check_model(name)  # first: whether there is such a model is not for this caller
        return model_of(known, [name, "versions", version] if version else [name])


class _Gated(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """What grpc asks at the head of each call."""

    def __init__(self, server: RpcServer) -> None:
        self._server = server

    def service(self, handler_call_details: Any) -> Any:
        return self._server.method(handler_call_details.method, handler_call_details.invocation_metadata or ())


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
