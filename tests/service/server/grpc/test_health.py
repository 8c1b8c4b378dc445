"""The health service of gRPC, as probes and load balancers ask it: messages are written out as bytes here."""

import time
from pathlib import Path

import grpc
import pytest

from tests.bundles import make_bundle
from tests.live import free_port, live

HEALTH = "/grpc.health.v1.Health/"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"


def request(service: str) -> bytes:
    """Return HealthCheckRequest: field 1, a text."""
    return b"\x0a" + bytes([len(service)]) + service.encode() if service else b""


def test_health(tmp_path: Path) -> None:
    """The process and the inference service are serving, and another service is not known."""
    make_bundle(tmp_path)
    port = free_port()
    with live(tmp_path, "--grpc-port", str(port)), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = channel.unary_unary(f"{HEALTH}Check")
        for service in ("", "inference.GRPCInferenceService", "grpc.health.v1.Health"):
            assert check(request(service), timeout=20, wait_for_ready=True) == SERVING
        with pytest.raises(grpc.RpcError) as refused:
            check(request("nobody"), timeout=20)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"{HEALTH}List")(b"", timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert next(channel.unary_stream(f"{HEALTH}Watch")(request("nobody"), timeout=20)) == SERVICE_UNKNOWN


def test_who_watches_keeps_no_server_from_ending(tmp_path: Path) -> None:
    """A watcher is told what changes and let go when the server stops, at once and without an error of the server."""
    make_bundle(tmp_path)
    port = free_port()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with live(tmp_path, "--grpc-port", str(port)):
            seen = channel.unary_stream(f"{HEALTH}Watch")(request(""), timeout=60, wait_for_ready=True)
            assert next(seen) == SERVING
            stopped_s = time.monotonic()
        assert time.monotonic() - stopped_s < 15
        assert list(seen) in ([NOT_SERVING], [])
