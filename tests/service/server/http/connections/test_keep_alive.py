"""How long an idle connection stays open, over real sockets."""

import socket
import time
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.live import live
from tests.service.server.http.connections.test_connection import GOOD, LONG, request

WAYS = {"short": request(GOOD), "long": request(GOOD, "/predict", "POST", LONG), "page": request(b"", "/docs", "GET")}


def test_an_idle_connection_is_closed_after_keep_alive_s(tmp_path: Path) -> None:
    """Whatever was answered last: a connection on which no further request comes ends without another byte."""
    make_bundle(tmp_path)
    with live(tmp_path, "--keep-alive-s", "1") as server:
        for way, raw in WAYS.items():
            with socket.create_connection((server.host, server.port), timeout=30) as connection:
                connection.sendall(raw)
                answer = connection.makefile("rb").read()  # to the end of the connection
                assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1, way
                assert b"connection: close" not in answer, way


@pytest.mark.parametrize("way", WAYS)
def test_an_idle_connection_outlives_the_time_for_a_request(tmp_path: Path, way: str) -> None:
    """`read_timeout_s` counts from a request's first byte: an idle connection waits for `keep_alive_s`."""
    make_bundle(tmp_path)
    with (
        live(tmp_path, "--read-timeout-s", "0.2", "--keep-alive-s", "600") as server,
        socket.create_connection((server.host, server.port), timeout=30) as connection,
    ):
        for _ in range(3):
            connection.sendall(WAYS[way])
            assert connection.recv(15, socket.MSG_PEEK) == b"HTTP/1.1 200 OK"
            time.sleep(0.6)  # until the answer is complete, and the connection idle for more than read_timeout_s
            connection.recv(1 << 20)
