"""The health service of gRPC, `grpc.health.v1.Health`, which Kubernetes' probes and load balancers ask.

Source: the health checking protocol of gRPC, health.proto. The service named "" and the inference service are the
process; its status is that of /health/ready.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from batchproof.service.errors import ServiceError
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.grpc.messages import SERVICE
from batchproof.service.server.serving.app import App

HEALTH_SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
WATCH_S = 1.0  # between looks at what may have changed


class HealthService:
    """The two methods for what one process serves."""

    def __init__(self, app: App, response: Any) -> None:
        """Answer with messages of the class `response`. Made on the running loop."""
        self._app = app
        self._response = response
        self._ended = asyncio.Event()

    async def check(self, _head: RequestHead, request: Any, _context: Any) -> Any:
        """Return the status now; raises 404 for a service that there is not."""
        status = self._status(request.service)
        if status == SERVICE_UNKNOWN:
            raise ServiceError(404, "not_found", f"There is no service {request.service!r:.100}; ask for {SERVICE!r}.")
        return self._response(status=status)

    async def watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        """Yield the status, and again whenever it changes, until the server ends."""
        last = None
        while not self._ended.is_set():
            status = self._status(request.service)
            if status != last:
                yield self._response(status=status)
                last = status
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), WATCH_S)

    def end(self) -> None:
        """Let those who watch go: an open call keeps a server from ending."""
        self._ended.set()

    def _status(self, service: str) -> int:
        if service not in ("", SERVICE, HEALTH_SERVICE):
            return SERVICE_UNKNOWN
        return SERVING if self._app.is_ready else NOT_SERVING
