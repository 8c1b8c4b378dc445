"""The configurations of docs/proxies.md, run as they stand there against a real service: TLS, names, addresses, sizes, streams."""

import http.client
import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.bundles import make_bundle
from tests.live import ROOT, free_port, start
from tests.programs import command_of
from tests.service.server.sockets.test_tls import Authority

PAGE = (ROOT / "docs" / "proxies.md").read_text(encoding="utf-8")
NAME = "models.example.org"
ROW = {"length_mm": 40.5, "island": "Oslo", "count": 3, "seen": None, "adult": True, "grade": 1, "owned": None}
LINE = b"40.5,Oslo,3,2020-01-01,true,1,\n"
HEADER = b"length_mm,island,count,seen,adult,grade,owned\n"
CALLER = "127.0.0.9"  # no proxy
LIES = {
    "X-Forwarded-For": "203.0.113.66", "X-Forwarded-Host": "evil.example.org", "X-Forwarded-Proto": "http",
    "X-Forwarded-Prefix": "/evil", "Forwarded": "for=203.0.113.66;host=evil.example.org;proto=http",
}  # fmt: skip


def configuration(language: str, folder: Path, port: int, service_port: int) -> str:
    """Return the page's configuration in this language with ports and files of the test."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (text,) = blocks
    changed = text.replace("127.0.0.1:8000", f"127.0.0.1:{service_port}").replace("/etc/ssl", str(folder))
    for written, ours in (("listen 443", f"listen {port}"), ("bind :443", f"bind :{port}"), ("port_value: 443", f"port_value: {port}"),
                          ("port_value: 8000", f"port_value: {service_port}")):  # fmt: skip
        changed = changed.replace(written, ours)
    assert str(port) in changed
    assert str(service_port) in changed
    return changed


def nginx(folder: Path, port: int, service_port: int) -> list[str]:
    """Write what the page has of nginx into its `http` block, and return the command."""
    paths = " ".join(
        f"{name}_temp_path {folder}/{name};" for name in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; user root; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;\n"
        f"events {{ worker_connections 200; }}\nhttp {{ access_log off; {paths}\n"
        f"{configuration('nginx', folder, port, service_port)}\n}}\n"
    )
    return ["/usr/sbin/nginx", "-c", str(file), "-e", str(folder / "error.log")]


def haproxy(folder: Path, port: int, service_port: int) -> list[str]:
    """Write what the page has of HAProxy, and return the command."""
    (folder / "models.pem").write_bytes((folder / "models.crt").read_bytes() + (folder / "models.key").read_bytes())
    file = folder / "haproxy.cfg"
    file.write_text(configuration("haproxy", folder, port, service_port))
    return ["/usr/sbin/haproxy", "-db", "-f", str(file)]


def envoy(folder: Path, port: int, service_port: int) -> list[str]:
    """Write what the page has of Envoy, and return the command."""
    file = folder / "envoy.yaml"
    file.write_text(configuration("yaml", folder, port, service_port))
    return [
        command_of(["envoy"]),
        "-c",
        str(file),
        "--concurrency",
        "1",
        "--log-level",
        "warn",
        "--use-dynamic-base-id",
    ]


PROXIES = [nginx, haproxy, envoy]


@dataclass(frozen=True)
class Front:
    """A proxy that runs before a service."""

    port: int
    service_port: int
    context: ssl.SSLContext
    log: Path

    def connect(self) -> http.client.HTTPSConnection:
        """Return a connection to the proxy from an address that is no proxy's."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=20, context=self.context, source_address=(CALLER, 0)
        )
        connection.connect()
        return connection

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Return status and content of one request that names the public host."""
        connection = self.connect()
        given = {"Host": NAME, **headers}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, json.loads(content) if is_json else content.decode()


@contextmanager
def running(command: list[str], front: Front) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 30
        while True:
            try:
                if front.ask("GET", "/health/ready")[0] == 200:
                    break
            except (OSError, http.client.HTTPException):
                pass
            assert process.poll() is None
            assert time.monotonic() < end_s
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module", params=PROXIES, ids=lambda proxy: proxy.__name__)
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Run the service and one proxy before it."""
    folder = tmp_path_factory.mktemp("front")
    make_bundle(folder / "models")
    authority = Authority(folder)
    authority.certify("models", x509.DNSName(NAME))
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    port, log = free_port(), folder / "service.log"
    flags = ["--trusted-proxies", "127.0.0.1", "--allowed-hosts", NAME, "--access-log", "true", "--port", "0"]
    command = ["bash", "-c", 'exec "$@" 2> >(tee "$0" >&2)', str(log), sys.executable]
    command = [*command, "-m", "batchproof.service", "serve", "--models", str(folder / "models"), *flags]
    with start(command, {}) as service:
        found = Front(port, service.port, context, log)
        with running(request.param(folder, port, service.port), found):
            yield found


def test_links_name_the_public_address(front: Front) -> None:
    """The OpenAPI document names the scheme and host that the caller used, whatever else it sends; pages name none."""
    for headers in ({}, LIES):
        status, page = front.ask("GET", "/", Accept="text/html", **headers)
        assert status == 200
        assert 'data-root="./"' in page
        assert "://" not in page
        assert "evil" not in page
        assert front.ask("GET", "/openapi.json", **headers)[1]["servers"] == [{"url": f"https://{NAME}"}]


def test_the_log_names_the_caller(front: Front) -> None:
    """The access log has the address of the caller, not the proxy's, and not what the caller says of itself."""
    for number, headers in enumerate(({}, LIES)):
        body = json.dumps({"rows": [ROW]}).encode()
        assert front.ask("POST", "/predict", body, **{"X-Request-Id": f"told-{number}", **headers})[0] == 200
    time.sleep(0.5)
    lines = [json.loads(line) for line in front.log.read_text().splitlines() if '"told-' in line]
    assert [line["client"] for line in lines] == [CALLER, CALLER]


def test_other_hosts_are_refused(front: Front) -> None:
    """A name that is not allowed is refused behind the proxy too."""
    assert front.ask("GET", "/models", Host="evil.example.org")[0] in (421, 404)


def test_large_bodies_pass(front: Front) -> None:
    """A body of several megabytes is answered: the limits of the service decide, not the proxy's default."""
    body = json.dumps({"rows": [ROW] * 20_000}).encode()
    assert len(body) > 2_000_000
    status, answer = front.ask("POST", "/predict", body, **{"Content-Type": "application/json"})
    assert status == 200
    assert len(answer["predictions"]) == 20_000


def test_a_table_is_answered_while_it_is_sent(front: Front) -> None:
    """The first rows of the answer arrive before the last rows of the table are sent: nothing on the way collects them."""
    connection = front.connect()
    connection.putrequest("POST", "/predict", skip_host=True)
    for name, value in (
        ("Host", NAME),
        ("Content-Type", "text/csv"),
        ("Accept", "text/csv"),
        ("Transfer-Encoding", "chunked"),
    ):
        connection.putheader(name, value)
    connection.endheaders()
    half = LINE * 20_000

    def send(part: bytes) -> None:
        connection.send(b"%x\r\n%b\r\n" % (len(part), part))

    send(HEADER + half)
    answer = http.client.HTTPResponse(connection.sock, method="POST")
    answer.begin()  # the table is not at its end yet
    assert answer.status == 200
    first = answer.read1(1000)
    assert first.startswith(b"prediction") or b"," in first
    send(half)
    connection.send(b"0\r\n\r\n")
    rest = answer.read()
    assert (first + rest).count(b"\n") == 40_001
    connection.close()


def test_connections_are_kept(front: Front) -> None:
    """One connection of a caller answers many requests, and pauses between them cost none."""
    connection = front.connect()
    for pause_s in (0.0, 0.0, 2.0, 0.0):
        time.sleep(pause_s)
        connection.request("POST", "/predict", json.dumps({"rows": [ROW]}), {"Host": NAME})
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    connection.close()


def test_a_direct_caller_is_not_believed(front: Front) -> None:
    """Whoever reaches the service without the proxy gains nothing by the headers that proxies send."""
    connection = http.client.HTTPConnection("127.0.0.1", front.service_port, source_address=(CALLER, 0), timeout=20)
    connection.request("GET", "/openapi.json", headers={"Host": NAME, **LIES})
    assert "evil" not in connection.getresponse().read().decode()
    connection.request("GET", "/openapi.json", headers={"Host": "evil.example.org", "X-Forwarded-Host": NAME})
    assert connection.getresponse().status == 421
    connection.close()
