"""Two instances behind a real proxy, stopped and started one after the other, or stalled, under load: no request fails.

HAProxy looks at readiness, nginx only at connections that are refused; both keep connections to the instances open.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.live import ROOT, free_port
from tests.programs import command_of

ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": None, "adult": True, "grade": 1, "owned": None}
BODY = json.dumps({"rows": [ROW]})
STOP_DELAY_S = 1.5
STALL_S = 1.5  # several times as long as HAProxy's two probes
KEPT_OUT_S = 3  # longer than a proxy leaves an instance out: nginx counts whole seconds, so 1 s lasts up to 2
CALLERS = 8


class Instance:
    """One service that can be stopped and started again on its port."""

    def __init__(self, models: Path, workers: int) -> None:
        self.port = free_port()
        flags = ["--port", str(self.port), "--workers", str(workers), "--stop-delay-s", str(STOP_DELAY_S)]
        self.command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), *flags]
        self.start()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
        )
        until(lambda: status_of(self.port, "GET", "/health/ready") == 200)

    def stop(self) -> int:
        """Stop it as a platform does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def status_of(port: int, method: str, path: str) -> int:
    """Return the status of one request, 0 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, BODY if method == "POST" else None)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def until(is_so: Callable[[], bool]) -> None:
    """Wait until it is so."""
    end_s = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.05)


def haproxy(folder: Path, port: int, instances: list[Instance]) -> list[str]:
    """Write HAProxy's configuration and return its command."""
    servers = "\n".join(
        f"  server s{number} 127.0.0.1:{instance.port} check inter 200ms fall 2 rise 1"
        for number, instance in enumerate(instances)
    )
    file = folder / "haproxy.cfg"
    file.write_text(
        f"""global
  maxconn 200
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout check 5s
  option redispatch
  retries 3
listen front
  bind 127.0.0.1:{port}
  balance leastconn
  http-reuse safe
  option httpchk GET /health/ready
{servers}
"""
    )
    return [command_of(["haproxy"]), "-db", "-f", str(file)]


def nginx(folder: Path, port: int, instances: list[Instance]) -> list[str]:
    """Write nginx' configuration and return its command."""
    servers = "\n".join(f"    server 127.0.0.1:{instance.port} max_fails=1 fail_timeout=1s;" for instance in instances)
    file = folder / "nginx.conf"
    paths = " ".join(
        f"{name}_temp_path {folder}/{name};" for name in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"""daemon off; user root; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 200; }}
http {{
  access_log off; {paths}
  upstream instances {{
{servers}
    keepalive 16;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://instances;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout 2s;
    }}
  }}
}}
"""
    )
    return [command_of(["nginx"]), "-c", str(file), "-e", str(folder / "error.log")]


Proxy = Callable[[Path, int, list[Instance]], list[str]]


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """Run a proxy until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: status_of(port, "GET", "/health/ready") == 200)
        yield
    finally:
        process.terminate()
        process.wait(20)


def call(port: int, is_over: threading.Event, statuses: Counter[str]) -> None:
    """Ask again and again on a connection to the proxy that is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    while not is_over.is_set():
        try:
            connection.request("POST", "/predict", BODY)
            answer = connection.getresponse()
            answer.read()
            statuses[str(answer.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            statuses[repr(error)] += 1
            connection.close()
    connection.close()


@contextmanager
def two_instances(folder: Path, proxy: Proxy, workers: int) -> Iterator[tuple[list[Instance], list[Counter[str]]]]:
    """Serve one model twice behind a proxy, and have callers go on; yields the instances and what each caller counts."""
    make_bundle(folder / "models")
    instances = [Instance(folder / "models", workers) for _ in range(2)]
    port, is_over = free_port(), threading.Event()
    counts: list[Counter[str]] = [Counter() for _ in range(CALLERS)]
    callers = [threading.Thread(target=call, args=(port, is_over, statuses)) for statuses in counts]
    try:
        with running(proxy(folder, port, instances), port):
            for caller in callers:
                caller.start()
            yield instances, counts
            is_over.set()
            for caller in callers:
                caller.join()
    finally:
        is_over.set()
        for instance in instances:
            instance.process.kill()
            instance.process.wait()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("proxy", [haproxy, nginx], ids=["haproxy", "nginx"])
def test_a_rolling_update_fails_no_request(tmp_path: Path, proxy: Proxy, workers: int) -> None:
    """Each of two instances is stopped by SIGTERM and started again while callers go on: every request is answered 200."""
    with two_instances(tmp_path, proxy, workers) as (instances, counts):
        for instance in instances:
            time.sleep(KEPT_OUT_S)
            assert instance.stop() == 0
            instance.start()
        time.sleep(1)
    total = sum(counts, Counter[str]())
    assert set(total) == {"200"}, total
    assert total["200"] > 1000


@pytest.mark.parametrize("proxy", [haproxy, nginx], ids=["haproxy", "nginx"])
def test_instances_that_are_all_slow_fail_no_request(tmp_path: Path, proxy: Proxy) -> None:
    """Where no instance gets a core for longer than several probes take, requests wait: a slow probe is no failed one."""
    with two_instances(tmp_path, proxy, workers=1) as (instances, counts):
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for instance in instances:
                instance.process.send_signal(number)
            time.sleep(STALL_S)
    total = sum(counts, Counter[str]())
    assert set(total) == {"200"}, total
