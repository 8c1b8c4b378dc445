"""Triton's model repository extension over gRPC: what is there, loading and unloading."""

from collections.abc import Mapping
from typing import Any

from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.oip.metadata import index
from batchproof.service.server.loading.reloader import Kind
from batchproof.service.server.reload.repository_control import carry_out
from batchproof.service.server.serving.app import App


class RepositoryService:
    """The three methods for what one process serves."""

    def __init__(self, app: App, messages: Mapping[str, Any]) -> None:
        """Answer with the classes of `messages`."""
        self._app = app
        self._messages = messages

    async def index(self, head: RequestHead, request: Any, _context: Any) -> Any:
        """Return each version that is known, its state and the reason."""
        registry = self._app.registry
        if head.grant is not None:
            registry = registry.only(head.grant.covers)
        return self._messages["RepositoryIndexResponse"](models=index(registry, is_ready=request.ready))

    async def load(self, head: RequestHead, request: Any, _context: Any) -> Any:
        """Return when the model's version of the folder answers in every process."""
        return await self._carry_out("load", head, request)

    async def unload(self, head: RequestHead, request: Any, _context: Any) -> Any:
        """Return when the model answers in no process."""
        return await self._carry_out("unload", head, request)

    async def _carry_out(self, kind: Kind, head: RequestHead, request: Any) -> Any:
        if head.grant is not None:
            head.grant.check_model(request.model_name)
        parameters = {parameter.key: _value(parameter.value) for parameter in request.parameters}
        await carry_out(self._app, kind, request.model_name, parameters)
        return self._messages[f"RepositoryModel{kind.capitalize()}Response"]()


def _value(parameter: Any) -> Any:
    chosen = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, chosen) if chosen else None
