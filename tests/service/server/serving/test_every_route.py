"""Every route, read from the tables of the service itself, and every kind of caller: over HTTP and gRPC, with TLS, 1 and 2 workers.

A route that is new has to be named here with what it needs; until then a test fails. Whatever the service does not know
as open is closed: that holds for the paths that can be made of all words in its source.
"""

import ast
import datetime as dt
import itertools
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from batchproof.service.access import keys_file
from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.grpc.messages import classes
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from batchproof.service.server.serving.gate import Page, Refusal
from batchproof.service.server.web.site import make_pages
from tests.bundles import make_bundle
from tests.live import ROOT, live
from tests.service.server.grpc.test_certificates import Service, end_of, entry
from tests.service.server.serving.test_gate import read_answer, request

ALL = ("predict", "read", "metrics", "admin")
ONE, EVERY, VISIBLE = "one model", "every model", "the models that the key is for"
CODE = grpc.StatusCode
PREDICT, DESCRIBE, READ = {"predict"}, {"predict", "read"}, {"read"}


@dataclass(frozen=True)
class Needs:
    """What a route needs: one of some scopes, and models."""

    scopes: set[str]
    models: str


# What answers a request that predicts nothing, and what it needs. None: everybody may ask.
PAGES: dict[tuple[str, str], Needs | None] = {
    ("GET", "/"): None,  # a page for people says nothing about what is served: its script asks, with a key
    ("GET", "/docs"): None,
    ("GET", "/watch"): None,
    ("GET", "/openapi.json"): Needs(READ, EVERY),
    ("GET", "/swagger.json"): Needs(READ, EVERY),
    ("GET", "/models"): Needs(DESCRIBE, VISIBLE),
    ("GET", "/models/flowers"): Needs(DESCRIBE, ONE),
    ("GET", "/models/flowers/versions/1"): Needs(DESCRIBE, ONE),
    ("GET", "/models/flowers/versions/1/evidence"): Needs(DESCRIBE, ONE),
    ("GET", "/models/flowers/report"): Needs(READ, ONE),
    ("GET", "/models/flowers/versions/1/report"): Needs(READ, ONE),
    ("GET", "/models/flowers/versions/1/bundle/bundle.json"): Needs(READ, ONE),
    ("GET", "/models/flowers/try"): None,
    ("GET", "/models/flowers/versions/1/try"): None,
    ("GET", "/models/flowers/score"): None,
    ("GET", "/models/flowers/versions/1/score"): None,
    ("GET", "/metrics"): Needs({"metrics"}, EVERY),
    ("GET", "/journal/request"): Needs({"admin"}, EVERY),
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
    ("GET", "/health"): None,
    ("GET", "/ping"): None,
    ("GET", "/version"): Needs(DESCRIBE, VISIBLE),
    ("GET", "/v2"): Needs(DESCRIBE, VISIBLE),
    ("GET", "/v2/health/live"): None,
    ("GET", "/v2/health/ready"): None,
    ("GET", "/v2/models/flowers"): Needs(DESCRIBE, ONE),
    ("GET", "/v2/models/flowers/ready"): Needs(DESCRIBE, ONE),
    ("GET", "/v2/models/flowers/config"): Needs(DESCRIBE, ONE),
    ("GET", "/v2/models/flowers/stats"): Needs(DESCRIBE, ONE),
    ("GET", "/v2/models/flowers/versions/1"): Needs(DESCRIBE, ONE),
    ("GET", "/v2/models/flowers/versions/1/ready"): Needs(DESCRIBE, ONE),
    ("GET", "/v2/models/flowers/versions/1/config"): Needs(DESCRIBE, ONE),
    ("GET", "/v2/models/flowers/versions/1/stats"): Needs(DESCRIBE, ONE),
    ("GET", "/v2/models/stats"): Needs(DESCRIBE, EVERY),
    ("POST", "/v2/repository/index"): Needs(DESCRIBE, VISIBLE),
    ("POST", "/v2/repository/models/flowers/load"): Needs({"admin"}, ONE),
    ("POST", "/v2/repository/models/flowers/unload"): Needs({"admin"}, ONE),
    ("GET", "/v1/models"): Needs(DESCRIBE, VISIBLE),
    ("GET", "/v1/models/flowers"): Needs(DESCRIBE, ONE),
}
CALLS: dict[str, tuple[Needs | None, dict[str, Any]]] = {
    "ServerLive": (None, {}),
    "ServerReady": (None, {}),
    "Check": (None, {}),
    "ServerMetadata": (Needs(DESCRIBE, VISIBLE), {}),
    "ModelReady": (Needs(DESCRIBE, ONE), {"name": "flowers"}),
    "ModelMetadata": (Needs(DESCRIBE, ONE), {"name": "flowers"}),
    "ModelInfer": (Needs(PREDICT, ONE), {"model_name": "flowers"}),
    "RepositoryIndex": (Needs(DESCRIBE, VISIBLE), {}),
    "RepositoryModelLoad": (Needs({"admin"}, ONE), {"model_name": "flowers"}),
    "RepositoryModelUnload": (Needs({"admin"}, ONE), {"model_name": "flowers"}),
}


@dataclass(frozen=True)
class Kind:
    """One kind of caller, and what becomes of it."""

    scopes: tuple[str, ...] = ()  # none: it is 401
    models: str = "flowers"
    header: str = ""
    certificate: str = "nobody"  # which opens nothing
    is_spent: bool = False

    def status(self, needs: Needs | None) -> int:
        """Return with what a request is refused; 0 where it is not."""
        if needs is None:
            return 0
        if not self.scopes:
            return 401
        if needs.scopes.isdisjoint(self.scopes):
            return 403
        if (needs.models == ONE and self.models not in ("flowers", "*")) or (
            needs.models == EVERY and self.models != "*"
        ):
            return 403
        return 429 if self.is_spent else 0


KEYS: dict[str, dict[str, Any]] = {
    "everything": {"scopes": ALL},
    **{scope: {"scopes": (scope,)} for scope in ALL},
    "flowers": {"scopes": ALL, "models": ("flowers",)},
    "elsewhere": {"scopes": ALL, "models": ("price-*",)},
    "late": {"scopes": ALL, "not_after": dt.date(2020, 1, 1)},
    "spent": {"scopes": ALL, "requests_per_s": 1e-6},
}


@dataclass
class Served:
    """A service with TLS, client certificates, keys and gRPC."""

    service: Service
    port: int
    kinds: dict[str, Kind]
    certificates: dict[str, tuple[Path, Path]]
    connections: dict[str, tuple[ssl.SSLSocket, Any]] = field(default_factory=dict)

    def ask(self, kind: Kind, raw: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer to a request, on a connection with the kind's certificate."""
        connection, file = self.connections.pop(kind.certificate, None) or self.connect(kind.certificate)
        connection.sendall(raw)
        status, named, body = read_answer(file, has_body=not raw.startswith(b"HEAD"))
        if named.get("connection") == "close":
            close(connection, file)
        else:
            self.connections[kind.certificate] = connection, file
        return status, body

    def connect(self, certificate: str) -> tuple[ssl.SSLSocket, Any]:
        """Return a new connection, and what reads from it."""
        context = ssl.create_default_context(cafile=str(self.service.authority.file))
        context.load_cert_chain(*self.certificates[certificate])
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection = context.wrap_socket(plain, server_hostname="localhost")
        return connection, connection.makefile("rb")

    def spend(self, kind: Kind, workers: int) -> None:
        """Ask on new connections until every worker has granted the one request that the caller's quota is.

        Refusals alone say nothing: they may all come from one worker while another one still starts.
        """
        granted = 0
        while granted < workers:
            status, _ = self.ask(kind, raw_of("GET", "/models", kind))
            granted += status != 429
            self.close()

    def close(self) -> None:
        """Close all connections."""
        for one in self.connections.values():
            close(*one)
        self.connections.clear()


def close(connection: ssl.SSLSocket, file: Any) -> None:
    file.close()
    connection.close()


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve two models over HTTPS and gRPC to callers of every kind."""
    folder = tmp_path_factory.mktemp("every")
    service = Service(
        folder, entry("certified", "CN=certified", "predict") + entry("foreign", "CN=foreign", *ALL, models="price-*")
    )
    make_bundle(folder / "models", "price-nl", task="regression")
    certificates = {name: service.authority.certify(name) for name in ("nobody", "certified", "foreign")}
    secrets = {name: keys_file.new_key() for name in KEYS}
    entries = [
        keys_file.Key(name=name, sha256=keys_file.digest_of(secrets[name]), **fields) for name, fields in KEYS.items()
    ]
    with (folder / "keys.toml").open("a") as file:
        file.write("\n" + "\n".join(map(keys_file.entry_text, entries)))
    kinds = {
        "no key": Kind(),
        "wrong key": Kind(header="Authorization: Bearer bp_" + "x" * 43),
        "wrong scheme": Kind(header="Authorization: Basic eDp5"),
        "expired": Kind(header=f"X-API-Key: {secrets['late']}"),
        "wrong key, good certificate": Kind(header="X-API-Key: no", certificate="certified"),
        "certificate": Kind(("predict",), "*", certificate="certified"),
        "certificate for another model": Kind(ALL, "price-*", certificate="foreign"),
        "over quota": Kind(ALL, "*", f"Authorization: Bearer {secrets['spent']}", is_spent=True),
        "everything": Kind(ALL, "*", f"Authorization: Bearer {secrets['everything']}"),
        "this model": Kind(ALL, "flowers", f"Authorization: Bearer {secrets['flowers']}"),
        "another model": Kind(ALL, "price-*", f"X-API-Key: {secrets['elsewhere']}"),
        **{scope: Kind((scope,), "*", f"Authorization: Bearer {secrets[scope]}") for scope in ALL},
    }
    certain = ["--tls-client", "ask", "--grpc-client-certificates", "true", "--default-model", "flowers"]
    with live(folder / "models", *service.flags, *certain, "--workers", str(request.param)) as server:
        found = Served(service, server.port, kinds, certificates)
        found.spend(kinds["over quota"], request.param)
        yield found
        found.close()


def raw_of(method: str, path: str, kind: Kind, *headers: str, body: bytes = b"") -> bytes:
    named = [kind.header] if kind.header else []
    return request(method, path, body, *named, *headers)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[app.App]:
    """Return the same service in this process, whose tables are read."""
    folder = tmp_path_factory.mktemp("loaded")
    make_bundle(folder / "models")
    make_bundle(folder / "models", "price-nl", task="regression")
    (folder / "keys.toml").write_text(entry("certified", "CN=certified", "predict"))
    service = app.load(Settings(models=folder / "models", default_model="flowers", keys_file=str(folder / "keys.toml")))
    yield service
    service.close()


def refused(status: int, body: bytes) -> int:
    """Return the status of a refusal of the caller, whose kind its sentence confirms; 0 for any other answer."""
    if status not in (401, 403, 429):
        return 0
    told = {401: (b"key", b"Bearer", b"expired"), 403: (b"scope", b"model"), 429: (b"quota",)}[status]
    assert any(word in body for word in told), body
    return status


PREDICTIONS = {
    "whole": (("Content-Type: application/json",), b"{}"),
    "packed": (("Content-Encoding: gzip",), b"{}"),
    "of a page": (("Origin: https://localhost",), b"{}"),
    "asked with a query": ((), b"{}"),
    "table": (("Content-Type: text/csv",), b"a\n1\n"),
    "table wanted": (("Accept: text/csv",), b"{}"),
}


def test_every_prediction_and_every_caller(served: Served, loaded: app.App) -> None:
    """Each POST route, read from the table of routes, refuses each kind of caller in each form that a body may have."""
    paths = [path for path, endpoint in loaded.routes.endpoints.items() if endpoint.key.name == "flowers"]
    assert set(loaded.routes.tables) <= set(loaded.routes.endpoints)
    assert len(paths) > 10
    needs = Needs(PREDICT, ONE)
    for path, (form, (headers, body)), (name, kind) in itertools.product(
        paths, PREDICTIONS.items(), served.kinds.items()
    ):
        sent = f"{path}?x=1" if form == "asked with a query" else path
        status, answer = served.ask(kind, raw_of("POST", sent, kind, *headers, body=body))
        assert refused(status, answer) == kind.status(needs), (path, form, name, status, answer)


def test_every_prediction_is_refused_before_its_body(served: Served, loaded: app.App) -> None:
    """Of a body of 150 000 bytes, of a chunked one and of one that waits to be asked for, no byte is sent, and the refusal comes."""
    paths = [path for path, endpoint in loaded.routes.endpoints.items() if endpoint.key.name == "flowers"]
    unsent = ("Content-Length: 150000", "Transfer-Encoding: chunked", "Content-Length: 10\r\nExpect: 100-continue")
    needs = Needs(PREDICT, ONE)
    kinds = [kind for kind in served.kinds.values() if kind.status(needs)]
    for number, (path, size, more) in enumerate(itertools.product(paths, unsent, ("", "Content-Type: text/csv\r\n"))):
        for kind in kinds[number % 3 :: 3]:
            header = f"{kind.header}\r\n" if kind.header else ""
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{size}\r\n{more}{header}\r\n".encode()
            status, answer = served.ask(kind, head)
            assert refused(status, answer) == kind.status(needs), (path, size, status)


def test_every_page_and_every_caller(served: Served) -> None:
    """Each page refuses each kind of caller as its line in the table says, with GET and HEAD, with and without a slash."""
    for ((method, path), needs), (name, kind) in itertools.product(PAGES.items(), served.kinds.items()):
        for sent in {method, "HEAD" if method == "GET" else method}:
            for spelled in {path, path.rstrip("/") + "/"}:
                status, answer = served.ask(kind, raw_of(sent, spelled, kind))
                expected = kind.status(needs)
                if sent == "HEAD":
                    assert (status if status in (401, 403, 429) else 0) == expected, (path, name)
                else:
                    assert refused(status, answer) == expected, (path, name, status, answer)
                if kind.models == "price-*" and needs is not None:
                    assert b"flowers" not in answer, (path, name)


def test_every_call_and_every_caller(served: Served) -> None:
    """Each method of gRPC refuses each kind of caller as HTTP does."""
    names = {name.removesuffix("Request") for name in classes() if name.endswith("Request")}
    assert names == set(CALLS), "each method of gRPC has a line in the table of this file"
    statuses = {CODE.UNAUTHENTICATED: 401, CODE.PERMISSION_DENIED: 403, CODE.RESOURCE_EXHAUSTED: 429}
    for name, kind in served.kinds.items():
        with served.service.channel(served.certificates[kind.certificate]) as channel:
            metadata = [tuple(kind.header.split(": ", 1))] if kind.header else []
            for method, (needs, fields) in CALLS.items():
                ended = end_of(channel, method, headers=metadata, **fields)
                assert statuses.get(ended.code(), 0) == kind.status(needs), (
                    method,
                    name,
                    ended.code(),
                    ended.details(),
                )
            ended = end_of(channel, "Nothing", headers=metadata)
            assert (ended.code() is CODE.UNIMPLEMENTED) == (kind.status(Needs(DESCRIBE, VISIBLE)) == 0), name


def test_every_page_has_a_line_in_the_table(loaded: app.App) -> None:
    """Each route of the pages is in the table above, and what is there is there."""
    pages = make_pages(loaded)
    found = {("GET", path) for path in pages.openapi()["paths"]}
    found |= {("GET", str(route.path)) for route in pages.router.routes if getattr(route, "path", None)}  # type: ignore[attr-defined]
    posts = loaded.routes.endpoints.keys()
    parts = {"{name}": "flowers", "{version}": "1", "{file}": "bundle.json"}
    named = {(method, re.sub(r"\{\w+\}", lambda part: parts.get(part[0], part[0]), path)) for method, path in found}
    unlisted = {pair for pair in named if pair not in PAGES and pair[1] not in posts and "repository" not in pair[1]}
    assert unlisted == set(), "say in PAGES what these need"


def words() -> set[str]:
    """Return the segments of all paths in the source of the protocols and of the server."""
    found = set()
    for room in ("protocols", "server"):
        for file in (ROOT / "service" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/"):
                    found |= {part for part in node.value.split("/") if part.isidentifier()}
    return found


def test_whatever_is_not_named_as_open_is_closed(loaded: app.App) -> None:
    """Paths made of up to three words of the source, with every method: without a key all but the open pages are 401."""
    segments = sorted(words() | {"flowers", "price-nl", "1", "..", "%2e"})
    assert len(segments) > 15
    resolve = AsgiApp(loaded).router.resolve
    is_open = {path for (_, path), needs in PAGES.items() if needs is None}
    paths = {"/" + "/".join(some) for count in (1, 2, 3) for some in itertools.product(segments, repeat=count)}
    for path in paths | {"/", "//", "*", "", "/predict//", "//predict", "/health/live/../../models"}:
        for method in ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"):
            if (path.rstrip("/") or "/") in is_open or (method == "OPTIONS" and path in ("/", "//", "*")):
                continue
            target = resolve(RequestHead(method, path, b"", [(b"host", b"localhost")]))
            if isinstance(target, Page) and target.kind == "page":  # one file for every name of a model, known or not
                assert path.endswith(("/try", "/score")), (method, path)
                continue
            assert isinstance(target, Refusal), (method, path)
            assert target.error.status == 401, (method, path)


def test_methods_are_no_way_around(served: Served) -> None:
    """A header that asks for another method, or another path, changes nothing."""
    nobody = served.kinds["no key"]
    for header in (
        "X-HTTP-Method-Override: GET",
        "X-Method-Override: GET",
        "X-Original-URL: /health/live",
        "X-Rewrite-URL: /health/live",
    ):
        for method, path in (("POST", "/predict"), ("GET", "/models"), ("POST", "/health/livex")):
            assert served.ask(nobody, raw_of(method, path, nobody, header))[0] == 401
