"""The parts of uvicorn that are not its public interface and that connections build on, named and checked in one place.

`HttpToolsProtocol` parses with httptools, keeps pipelined requests in order and runs each that takes the long way as a
task. What is used of it and of its `RequestResponseCycle` stands in the two tables below. A version of uvicorn without one
of them is refused at the start, since it would fail at the first request or, worse, at a rare one.
"""

import sys
from contextlib import suppress
from importlib.util import find_spec, module_from_spec
from typing import Any

import httptools

from batchproof.service.errors import SettingError


def _import_by_parts(package: str) -> None:
    """Let modules of `package` be imported without what its own first file imports; that comes when it is asked for.

    The first file of uvicorn imports its command line and its reloaders, with click and multiprocessing.
    """
    spec = find_spec(package)
    assert spec is not None, "it is a requirement"
    assert spec.loader is not None, "it has a first file"
    module, execute = module_from_spec(spec), spec.loader.exec_module

    def whole(name: str) -> Any:
        del module.__getattr__
        execute(module)
        return getattr(module, name)

    module.__getattr__ = whole  # type: ignore[method-assign]  # PEP 562
    sys.modules[package] = module


if "uvicorn" not in sys.modules:
    _import_by_parts("uvicorn")

from uvicorn.config import Config  # noqa: E402
from uvicorn.protocols.http.flow_control import FlowControl  # noqa: E402
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle  # noqa: E402
from uvicorn.server import Server, ServerState  # noqa: E402

sys.modules["uvicorn"].Config = Config  # type: ignore[attr-defined]  # which its lifespan asks for

__all__ = ["Config", "FlowControl", "HttpToolsProtocol", "Server", "ServerState", "check", "new_parser"]

METHODS = {
    HttpToolsProtocol: (
        "connection_made",
        "connection_lost",
        "on_message_begin",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "pause_writing",
        "resume_writing",
        "timeout_keep_alive_handler",
    ),
    FlowControl: ("pause_reading", "resume_reading", "pause_writing", "resume_writing"),
    RequestResponseCycle: ("run_asgi", "send", "receive"),
}
ATTRIBUTES = {  # set in the constructor, so that only its code shows them
    HttpToolsProtocol: (
        "cycle",
        "flow",
        "headers",
        "loop",
        "parser",
        "pipeline",
        "scope",
        "server_state",
        "timeout_keep_alive",
        "timeout_keep_alive_task",
        "transport",
    ),
    FlowControl: ("read_paused", "write_paused"),
    RequestResponseCycle: ("disconnected", "keep_alive", "message_event", "response_complete", "response_started"),
}


def new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """Return a parser like the one that uvicorn makes for each connection."""
    parser = httptools.HttpRequestParser(protocol)
    with suppress(AttributeError):  # of a version that takes what follows `Connection: close` anyway
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def check() -> None:
    """Raise SettingError where this version of uvicorn lacks a part that connections build on, ModuleNotFoundError without uvloop."""
    import uvloop  # noqa: F401 - uvicorn imports it late, when models are loaded already

    absent = [
        f"{owner.__name__}.{name}" for owner, names in METHODS.items() for name in names if not hasattr(owner, name)
    ]
    for owner, names in ATTRIBUTES.items():
        assigned = vars(owner)["__init__"].__code__.co_names
        absent += [f"{owner.__name__}.{name}" for name in names if name not in assigned]
    if absent:
        import uvicorn

        raise SettingError(
            f"uvicorn {uvicorn.__version__} has no {', '.join(absent)}: install a version that Batchproof is tested with, "
            "which pyproject.toml names"
        )
