"""The gRPC server: it runs on the loop that answers HTTP, and its rows wait in the same queues and share the same runs.

Several workers listen on one port by SO_REUSEPORT: the kernel gives each connection to one of them.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio

import batchproof
from batchproof.service.errors import ServiceError
from batchproof.service.inference import async_run as awaiting
from batchproof.service.inference.model import Model
from batchproof.service.logs import event
from batchproof.service.metrics import Tally
from batchproof.service.protocols.head import ID_HEADER, request_id_of
from batchproof.service.protocols.oip.metadata import inputs_of, model_of, outputs_of
from batchproof.service.server.app import App
from batchproof.service.server.grpc.messages import SERVICE, classes
from batchproof.service.server.grpc.tensors import Tensors

STATUS = {
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
ROUTE = "grpc"  # in metrics and in the log
ID = ID_HEADER.decode()
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

Handler = Callable[[Any, Any], Awaitable[Any]]


class RpcServer:
    """The protocol's methods for what a service has loaded. Made on the running loop."""

    def __init__(self, served: App) -> None:
        """Bind the port; raises RuntimeError where it cannot be had."""
        settings = served.settings
        self._service = served
        self._messages = classes()
        self._tensors: dict[tuple[str, int], Tensors] = {}
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(settings.workers > 1)),
            ]
        )
        methods = {name: self._method(name) for name in METHODS}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._server.add_insecure_port(f"{host}:{settings.grpc_port}")

    async def start(self) -> None:
        """Take calls."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and end those that are open after `grace_s`."""
        await self._server.stop(grace_s)

    def _method(self, name: str) -> Any:
        answers: dict[str, Handler] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        return grpc.unary_unary_rpc_method_handler(
            partial(self._answer, name, answers[name]),
            request_deserializer=self._messages[f"{name}Request"].FromString,
            response_serializer=self._messages[f"{name}Response"].SerializeToString,
        )

    async def _answer(self, name: str, answer: Handler, request: Any, context: Any) -> Any:
        """Answer, or tell the refusal as the status that the protocol's clients know; log as HTTP does."""
        started_s = time.perf_counter()
        given = {key: value for key, value in context.invocation_metadata() or () if key == ID}
        request_id = request_id_of({ID_HEADER: str(given[ID]).encode()} if given else {})
        context.set_trailing_metadata(((ID, request_id),))
        try:
            answered = await answer(request, context)
        except ServiceError as error:
            if error.status >= 500:
                event("request_failed", 40, request_id=request_id, route=ROUTE, code=error.code)
            self._log(request_id, name, error.status, started_s, code=error.code)
            if error.retry_after_s is not None:
                context.set_trailing_metadata(((ID, request_id), ("retry-after", str(error.retry_after_s))))
            await context.abort(STATUS.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), error.message)
        self._log(request_id, name, 200, started_s)
        return answered

    def _log(self, request_id: str, name: str, status: int, started_s: float, **further: Any) -> None:
        """Log one call where every request is; `status` is that of HTTP."""
        if self._service.settings.access_log:
            seconds = round(time.perf_counter() - started_s, 6)
            named = {"method": name, "status": status, **further, "seconds": seconds}
            event("request", request_id=request_id, route=ROUTE, **named)

    async def _server_live(self, request: Any, context: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=self._service.is_ready)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        self._model(request.name, request.version)
        return self._messages["ModelReadyResponse"](ready=self._service.is_ready)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return self._messages["ServerMetadataResponse"](name="batchproof", version=batchproof.__version__)

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        manifest = self._model(request.name, request.version).manifest
        return self._messages["ModelMetadataResponse"](
            name=manifest.name,
            versions=[str(version) for version in sorted(self._service.registry.models[manifest.name])],
            platform="onnxruntime_onnx",
            inputs=inputs_of(manifest),
            outputs=outputs_of(manifest),
        )

    async def _infer(self, request: Any, context: Any) -> Any:
        started_s = time.perf_counter()
        model = self._model(request.model_name, request.model_version)
        key = (model.manifest.name, model.manifest.version)
        tally = self._service.tallies.setdefault((*key, ROUTE), Tally())
        try:
            tensors = self._tensors_of(key, model)
            arrays, rows, wanted = tensors.read(request)
            tally.decode_s += time.perf_counter() - started_s
            timeout_s = min(
                context.time_remaining() or self._service.settings.timeout_s, self._service.settings.timeout_s
            )
            outputs = await awaiting.run(self._service.batchers[key], arrays, rows, timeout_s)
        except ServiceError as error:
            tally.refused(error.code)
            raise
        encoding_s = time.perf_counter()
        answer = tensors.write(request, wanted, outputs)
        tally.answered(rows, encoding_s, started_s)
        return answer

    def _tensors_of(self, key: tuple[str, int], model: Model) -> Tensors:
        if key not in self._tensors:
            self._tensors[key] = Tensors(model.manifest, self._messages, self._service.settings.max_rows)
        return self._tensors[key]

    def _model(self, name: str, version: str) -> Model:
        return model_of(self._service.site, [name, "versions", version] if version else [name])
