"""The addresses that a service listens on, each refused in one sentence where it cannot be had."""

import importlib.util
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from batchproof.installation import hint
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import SettingError

BACKLOG = 2048  # connections that the kernel keeps until they are accepted


def is_loopback(host: str) -> bool:
    """Return whether a service on this address is reached from its own machine only; every spelling of one counts."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def bind(settings: Settings, port: int) -> socket.socket:
    """Return the bound socket; raises SettingError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, port))
    except OSError as error:
        listener.close()
        raise _cannot_listen(settings.host, port, error) from error
    return listener


def listen(listener: socket.socket) -> None:
    """Listen; raises SettingError, for instance where another process that bound the port too listens already."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _cannot_listen(host, port, error) from error


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that the kernel has accepted, as far as there are descriptors for them."""
    listener.setblocking(False)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # none is left, or there is no room for one
            return
        connection.setblocking(False)
        yield connection


def _cannot_listen(host: str, port: int, error: OSError) -> SettingError:
    return SettingError(f"Cannot listen on {host} port {port}: {error.strerror or error}.")


@contextmanager
def reserved_rpc_port(settings: Settings) -> Iterator[None]:
    """Keep the port of gRPC for this service; raises SettingError where gRPC is wanted and cannot be had.

    The workers bind the port, by SO_REUSEPORT and so beside any other service that asks for it in the same moment. A
    name that the kernel gives to one process of the network's namespace tells two services apart.
    """
    if not settings.grpc_port:
        yield
        return
    if importlib.util.find_spec("grpc") is None:
        raise SettingError(f"grpc_port is set, but grpcio is not installed: {hint('grpc')}.")
    bind(settings, settings.grpc_port).close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as reservation:
        try:
            reservation.bind(f"\0batchproof-grpc-{settings.host}-{settings.grpc_port}")
        except OSError as error:
            raise _cannot_listen(settings.host, settings.grpc_port, error) from error
        yield
