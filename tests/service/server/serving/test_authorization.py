"""Keys at the gate: every route, transport and kind of caller."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from batchproof.service.access import keys_file
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import SettingError
from batchproof.service.server.serving import app
from tests.bundles import make_bundle
from tests.inside import Inside, serving
from tests.live import free_port, live
from tests.service.server.serving.test_gate import CSV, GOOD, ROUTES, RPC, Guarded, call, request, talk

PAGES = ("start page", "API page", "absolute address without a path")  # the same files in every installation
OPEN = ("live", "ready", "Open Inference Protocol's health", "SageMaker's probe", *PAGES)
KEYS: dict[str, dict[str, Any]] = {
    "all": {"scopes": ["predict", "read", "metrics", "admin"]},
    "predictor": {"scopes": ["predict"]},
    "reader": {"scopes": ["read"]},
    "scraper": {"scopes": ["metrics"]},
    "elsewhere": {"scopes": ["predict", "read", "metrics", "admin"], "models": ["price-*"]},
    "late": {"scopes": ["predict", "read", "metrics", "admin"], "not_after": "2020-01-01"},
}


def write_keys(path: Path, keys: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Write a file of keys and return the keys by their owners."""
    secrets = {name: keys_file.new_key() for name in keys}
    entries = [
        keys_file.Key.model_validate({"name": name, "sha256": keys_file.digest_of(secrets[name]), **fields})
        for name, fields in keys.items()
    ]
    path.write_text("\n".join(map(keys_file.entry_text, entries)))
    return secrets


@dataclass(frozen=True)
class Keyed:
    """A server that asks for keys."""

    inside: Inside
    rpc_port: int
    keys: dict[str, str]

    @property
    def port(self) -> int:
        """Return the port of HTTP."""
        return self.inside.port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("keyed")
    make_bundle(folder / "models")
    make_bundle(folder / "models", "price-nl", task="regression")
    keys = write_keys(folder / "keys.toml", KEYS)
    settings = Settings(
        models=folder / "models", grpc_port=free_port(), max_body_bytes=200_000, default_model="flowers",
        keys_file=str(folder / "keys.toml"), allowed_hosts=("localhost", "127.0.0.1"),
    )  # fmt: skip
    with serving(settings) as inside:
        yield Keyed(inside, settings.grpc_port, keys)


def ask(server: Keyed, route: str, *extra_headers: str) -> tuple[int, dict[str, str], bytes]:
    method, path, body, headers, _ = ROUTES[route]
    ((status, named, answer),) = talk(_as_guarded(server), request(method, path, body, *headers, *extra_headers))
    return status, named, answer


def _as_guarded(server: Keyed) -> Any:
    return Guarded(server.inside.app, None, server.port, server.rpc_port)  # type: ignore[arg-type]


def bearer(server: Keyed, name: str) -> str:
    return f"Authorization: Bearer {server.keys[name]}"


@pytest.mark.parametrize(
    "sent", ["", "Authorization: Bearer bp_wrong", "X-API-Key: wrong", "Authorization: Basic eDp5", "late"]
)
@pytest.mark.parametrize("route", [route for route in ROUTES if route not in OPEN])
def test_without_a_valid_key_every_route_is_401(server: Keyed, route: str, sent: str) -> None:
    """No key, a wrong one, another scheme or an expired one: 401 with WWW-Authenticate, in the protocol's shape."""
    headers = [bearer(server, "late")] if sent == "late" else [sent] if sent else []
    status, named, body = ask(server, route, *headers)

    assert status == 401
    assert named["www-authenticate"].startswith("Bearer")
    assert "key" in str(json.loads(body)) or "Authorization" in str(json.loads(body))


@pytest.mark.parametrize("route", OPEN)
def test_probes_need_no_key_and_tell_nothing(server: Keyed, route: str) -> None:
    """Liveness, readiness and pages are answered without a key and with a wrong one, and name no model."""
    for headers in ([], ["X-API-Key: wrong"]):
        status, _, body = ask(server, route, *headers)
        assert status == 200
        assert b"flowers" not in body
    assert b"flowers" in ask(server, "ready", bearer(server, "predictor"))[2]


PREDICTS = ("prediction", "prediction by name", "prediction by version", "prediction of a page", "table wanted", "Open Inference Protocol",
            "SageMaker", "Azure", "KServe version 1", "long", "chunked", "table, chunked")  # fmt: skip
DESCRIBES = ("Open Inference Protocol's metadata", "KServe version 1's list", "models")
READS = ("OpenAPI", "report")


@pytest.mark.parametrize(
    ("names", "routes"),
    [
        (("predictor", "all"), PREDICTS),
        (("predictor", "reader", "all"), DESCRIBES),
        (("reader", "all"), READS),
        (("scraper", "all"), ("metrics",)),
    ],
)
def test_each_scope_opens_its_routes(server: Keyed, names: tuple[str, ...], routes: tuple[str, ...]) -> None:
    """A key with the scope passes; every other one is 403 and told which scope is missing."""
    for route in routes:
        for name in ("predictor", "reader", "scraper", "all"):
            is_unsent = b'{"row\r\n' in ROUTES[route][2] and name in names  # waits for a body that never ends
            if is_unsent:
                continue
            status, _, body = ask(server, route, bearer(server, name))
            if name in names:
                assert status not in (401, 403, 429), (route, name, body)
            else:
                assert status == 403, (route, name)
                assert "needs the scope" in str(json.loads(body))


@pytest.mark.parametrize("route", ["prediction", "table wanted", "Open Inference Protocol", "Open Inference Protocol's metadata", "KServe version 1",
                                   "report", "OpenAPI"])  # fmt: skip
def test_a_key_is_for_its_models(server: Keyed, route: str) -> None:
    """A key for other models is 403 for this one, and for pages that are about every model."""
    status, _, body = ask(server, route, bearer(server, "elsewhere"))

    assert status == 403
    assert "is not allowed to use this model" in str(json.loads(body)) or "about all models" in str(json.loads(body))


def test_lists_show_the_models_of_a_key(server: Keyed) -> None:
    """Lists of models hold those that the key is for."""
    for route in ("models", "KServe version 1's list"):
        body = ask(server, route, bearer(server, "elsewhere"))[2]
        assert b"price-nl" in body
        assert b"flowers" not in body


PROBING = (
    "GET /models/price-x", "GET /models/price-nl:flowers", "GET /models/price-nl%3Aflowers", "GET /models/flowers", "GET /models/nothing",
    "GET /models/price-x/report", "GET /models/price-nl/versions/9", "POST /models/price-x/predict", "POST /predict",
    "POST /models/price-nl/versions/9/predict", "GET /v2/models/price-x", "GET /v2/models/flowers", "GET /v2/models", "GET /v2/models/stats",
    "POST /v2/repository/index", "POST /v2/models/price-x/infer", "GET /v1/models", "GET /v1/models/price-x", "GET /v1/models//flowers",
    "GET /v1/modelsflowers", "POST /v1/models/price-x:predict", "POST /score", "POST /invocations", "GET /models", "GET /models/",
    "GET //models", "GET /models//flowers", "GET /openapi.json", "GET /swagger.json", "GET /", "GET /docs", "GET /metrics", "GET /metrics/",
    "GET /health/ready", "GET /health/ready/", "POST /v2/repository/models/flowers/load", "POST /v2/repository/models/a%2Fb/load",
    "GET http://localhost/models", "GET http://localhost", "GET /MODELS", "GET /models/%66lowers", "GET /models/flowers%00", "GET /./models",
)  # fmt: skip


@pytest.mark.parametrize("line", PROBING)
def test_no_answer_names_a_model_of_others(server: Keyed, line: str) -> None:
    """Whatever a key for some models asks for, no answer names another model, unless the caller named it itself."""
    method, path = line.split()
    ((status, named, body),) = talk(
        _as_guarded(server), request(method, path, b"{}" if method == "POST" else b"", bearer(server, "elsewhere"))
    )
    assert status not in (401, 500)
    said = b"".join([body, *(value.encode() for value in named.values())])
    assert b"length_mm" not in said.replace(b'"example"', b"") or b"flowers" not in said
    if "lowers" in path:
        assert status in (403, 404)
    else:
        assert b"flowers" not in said


@pytest.mark.parametrize(
    "headers",
    [(), ("Content-Type: text/csv",), ("Accept: text/csv",), ("Content-Encoding: gzip",), ("Origin: https://a.b",),
     ("Content-Length: 999999999",), ("Expect: 100-continue",), ("X-Request-Timeout-S: no",)],
)  # fmt: skip
@pytest.mark.parametrize("query", ["", "?x=1", "?rows=1"])
def test_no_form_of_a_request_tells_which_models_there_are(server: Keyed, query: str, headers: tuple[str, ...]) -> None:
    """A key for other models is refused alike for a model that there is and one that there is not, whatever else is wrong."""
    for path in ("/models/{}/predict", "/v2/models/{}/infer", "/v1/models/{}:predict", "/v1/models/{}:explain"):
        raws = [
            request("POST", path.format(name) + query, b"{", bearer(server, "elsewhere"), *headers)
            for name in ("flowers", "nothing")
        ]
        if headers and headers[0].startswith("Content-Length"):
            raws = [raw.replace(b"Content-Length: 1\r\n", b"") for raw in raws]
        answers = [talk(_as_guarded(server), raw)[0] for raw in raws]
        assert [status for status, _, _ in answers] == [403, 403]
        told = [re.sub(rb'"request_id":"[^"]*"', b"", body) for _, _, body in answers]
        assert told[0] == told[1]


@pytest.mark.parametrize("line", PROBING)
def test_every_path_is_closed_without_a_key(server: Keyed, line: str) -> None:
    """However a path is spelled, without a key it is 401, but for pages, which hold no data, and whether the service is ready."""
    method, path = line.split()
    ((status, _, body),) = talk(_as_guarded(server), request(method, path, b"{}" if method == "POST" else b""))

    is_open = path.startswith("/health") or path in ("/", "/docs", "http://localhost")
    assert status == (200 if is_open else 401)
    assert b"flowers" not in body
    assert b"price" not in body


def test_calls_do_not_tell_which_models_there_are(server: Keyed) -> None:
    """Over gRPC a model that the key is not for and one that there is not are refused alike."""
    guarded, metadata = _as_guarded(server), (("x-api-key", server.keys["elsewhere"]),)
    for method in ("ModelReady", "ModelMetadata"):
        texts = {
            (error.code(), error.details())
            for name in ("flowers", "nothing", "flower")
            for error in [call(guarded, method, metadata, name=name)]
        }
        assert [code for code, _ in texts] == [grpc.StatusCode.PERMISSION_DENIED]
        refused = call(guarded, method, metadata, name="price-x")
        assert refused.code() is grpc.StatusCode.NOT_FOUND
        assert "flowers" not in str(refused.details())


@pytest.mark.parametrize("method", RPC)
def test_calls_need_a_key(server: Keyed, method: str) -> None:
    """Over gRPC the key comes in the metadata; without one all but health is UNAUTHENTICATED, with one of others PERMISSION_DENIED."""
    guarded = _as_guarded(server)
    is_health = method in ("ServerLive", "ServerReady")
    assert call(guarded, method, **RPC[method]).code() is (
        grpc.StatusCode.OK if is_health else grpc.StatusCode.UNAUTHENTICATED
    )
    metadata = (("authorization", f"Bearer {server.keys['scraper']}"),)
    denied = call(guarded, method, metadata, **RPC[method]).code()
    assert denied is (grpc.StatusCode.OK if is_health else grpc.StatusCode.PERMISSION_DENIED)
    if "name" in str(RPC[method]):
        metadata = (("x-api-key", server.keys["elsewhere"]),)
        assert call(guarded, method, metadata, **RPC[method]).code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_refusal_comes_before_the_body(server: Keyed) -> None:
    """A caller without a key is refused after its head: of a body of 150 000 bytes none is sent."""
    for headers in ((), (CSV,)):
        head = (
            "\r\n".join(["POST /predict HTTP/1.1", "Host: localhost", "Content-Length: 150000", *headers]).encode()
            + b"\r\n\r\n"
        )
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("workers", [1, 2])
def test_quotas_and_counters(tmp_path: Path, workers: int) -> None:
    """Over its quota a caller gets 429 with Retry-After; rows are charged; counters and the log name the caller."""
    make_bundle(tmp_path / "models")
    keys = write_keys(
        tmp_path / "keys.toml",
        {"slow": {"scopes": ["predict"], "requests_per_s": 2 * workers}, "wide": {"scopes": ["predict"], "rows_per_s": 10 * workers},
         "scraper": {"scopes": ["metrics"]}},
    )  # fmt: skip
    flags = ["--keys-file", str(tmp_path / "keys.toml"), "--workers", str(workers), "--access-log", "true"]
    rows = json.loads(GOOD)["rows"]
    with live(tmp_path / "models", *flags) as server, httpx.Client(base_url=server.url) as client:

        def ask_for(name: str, count: int = 1) -> httpx.Response:
            return client.post("/predict", json={"rows": rows * count}, headers={"X-API-Key": keys[name]})

        statuses = [ask_for("slow") for _ in range(5)]
        wide = [ask_for("wide", 50), ask_for("wide")]
        time.sleep(1.2)  # a second worker writes its counts once a second
        text = client.get("/metrics", headers={"X-API-Key": keys["scraper"]}).text
    assert [answer.status_code for answer in statuses].count(200) == 2
    assert statuses[-1].status_code == 429
    assert int(statuses[-1].headers["retry-after"]) >= 1
    assert "2 requests a second" in statuses[-1].json()["error"]["message"]
    assert [answer.status_code for answer in wide] == [200, 429]
    assert 'batchproof_caller_requests_total{caller="slow",outcome="admitted"} 2.0' in text
    assert 'batchproof_caller_requests_total{caller="slow",outcome="refused"} 3.0' in text
    assert 'batchproof_caller_rows_total{caller="wide"} 50.0' in text
    assert keys["slow"] not in text


def test_a_refusal_is_logged_with_its_caller(tmp_path: Path) -> None:
    """The access log names the owner of a key that is refused for its scope, its models or its quota, over HTTP and gRPC."""
    make_bundle(tmp_path / "models")
    kinds: dict[str, dict[str, Any]] = {
        "scraper": {"scopes": ["metrics"]},
        "elsewhere": {"scopes": ["predict"], "models": ["price-*"]},
        "slow": {"scopes": ["predict"], "requests_per_s": 0.001},
    }
    keys = write_keys(tmp_path / "keys.toml", kinds)
    rpc_port = free_port()
    flags = ["--keys-file", str(tmp_path / "keys.toml"), "--access-log", "true", "--grpc-port", str(rpc_port)]
    refused = []
    with live(tmp_path / "models", *flags) as server:
        assert httpx.post(f"{server.url}/predict", content=GOOD, headers={"X-API-Key": keys["slow"]}).status_code == 200
        for name, key in keys.items():
            for headers in ({}, {"Content-Type": "text/csv"}, {"Content-Encoding": "gzip"}):
                answer = httpx.post(f"{server.url}/predict", content=GOOD, headers={"X-API-Key": key, **headers})
                refused.append((name, answer.status_code))
            call(Guarded(None, None, server.port, rpc_port), "ModelReady", (("x-api-key", key),), name="flowers")  # type: ignore[arg-type]
            refused.append((name, 429 if name == "slow" else 403))
        httpx.get(f"{server.url}/health/live", headers={"X-Request-Id": "last"})
        assert server.process.stderr is not None
        logged = []
        for line in map(json.loads, server.process.stderr):
            if line.get("request_id") == "last":
                break
            logged += [(line["caller"], line["status"])] if line["event"] == "request" and line["status"] != 200 else []
    assert logged == refused


def test_the_file_is_read_again(tmp_path: Path) -> None:
    """A key that is added counts within seconds, one that is removed no longer does, and a broken file changes nothing."""
    make_bundle(tmp_path / "models")
    path = tmp_path / "keys.toml"
    old = write_keys(path, {"ada": {"scopes": ["predict"]}})
    with serving(Settings(models=tmp_path / "models", keys_file=str(path))) as inside:
        url = f"http://127.0.0.1:{inside.port}/predict"

        def status(key: str) -> int:
            return httpx.post(url, content=GOOD, headers={"X-API-Key": key}).status_code

        assert status(old["ada"]) == 200
        path.write_text("[[keys]]\nname = 1\n")
        time.sleep(2.5)
        assert status(old["ada"]) == 200
        new = write_keys(path, {"ada": {"scopes": ["predict"]}})
        deadline_s = time.monotonic() + 10
        while status(new["ada"]) != 200 and time.monotonic() < deadline_s:
            time.sleep(0.1)
        assert (status(new["ada"]), status(old["ada"])) == (200, 401)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hangup_reads_keys_at_once(tmp_path: Path, workers: int) -> None:
    """SIGHUP has every worker read the file of keys again, also one that looks as it did before."""
    make_bundle(tmp_path / "models")
    path = tmp_path / "keys.toml"
    old = write_keys(path, {"ada": {"scopes": ["predict"]}})["ada"]
    with live(tmp_path / "models", "--keys-file", str(path), "--workers", str(workers)) as server:

        def statuses(key: str) -> set[int]:
            """Return what several connections are answered, which go to the workers in turn."""
            headers = {"X-API-Key": key}
            return {httpx.post(f"{server.url}/predict", content=GOOD, headers=headers).status_code for _ in range(6)}

        assert statuses(old) == {200}
        was = path.stat()
        new = write_keys(path, {"ada": {"scopes": ["predict"]}})["ada"]  # of the same length
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        time.sleep(2.5)  # a look at the file each second sees no change
        assert statuses(old) == {200}
        os.kill(server.process.pid, signal.SIGHUP)
        deadline_s = time.monotonic() + 20
        while (statuses(new), statuses(old)) != ({200}, {401}) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert (statuses(new), statuses(old)) == ({200}, {401})


def test_public_opens_pages(tmp_path: Path) -> None:
    """`public` opens pages, metrics or descriptions of models; predictions still need a key."""
    make_bundle(tmp_path / "models")
    write_keys(tmp_path / "keys.toml", {"ada": {"scopes": ["predict"]}})
    opened = {
        "docs": ("/openapi.json",),
        "metrics": ("/metrics",),
        "models": ("/models", "/models/flowers", "/v2/models/flowers", "/models/flowers/report"),
    }
    for public in opened:
        settings = Settings(models=tmp_path / "models", keys_file=str(tmp_path / "keys.toml"), public=(public,))  # type: ignore[arg-type]
        with serving(settings) as inside, httpx.Client(base_url=f"http://127.0.0.1:{inside.port}") as client:
            for name, paths in opened.items():
                for path in paths:
                    assert (client.get(path).status_code == 401) is (name != public), (public, path)
            assert client.post("/predict", content=GOOD).status_code == 401


def test_a_wrong_file_stops_the_start(tmp_path: Path) -> None:
    """A file of keys that cannot be read, and a token issuer without audience or keys, stop the start with one sentence."""
    make_bundle(tmp_path)
    for changed, sentence in (
        ({"keys_file": str(tmp_path / "absent")}, "absent cannot be read"),
        ({"jwt_issuer": "https://login.example.org"}, "jwt_issuer needs jwt_audience too"),
        (
            {"jwt_issuer": "https://a", "jwt_audience": "b", "jwt_keys": str(tmp_path / "absent")},
            "absent cannot be read",
        ),
    ):
        with pytest.raises(SettingError, match=sentence):
            app.load(Settings(models=tmp_path, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "127.0.0.1:8000", 200),
        ({}, "localhost", 200),
        ({}, "[::1]:8000", 200),
        ({}, "LocalHost.:8000", 200),
        ({}, "localhost:8000.evil.example.org", 400),
        ({}, "[::1].evil.example.org", 400),
        ({}, "eve@localhost", 400),
        ({"host": "127.0.0.2"}, "evil.example.org", 421),
        ({"host": "127.0.0.2"}, "127.0.0.2:8000", 200),
        ({"host": "::ffff:127.0.0.1"}, "evil.example.org", 421),
        ({}, "evil.example.org:8000", 421),
        ({"allowed_hosts": ("*.example.org",)}, "models.example.org", 200),
        ({"allowed_hosts": ("*.example.org",)}, "example.org.evil.net", 421),
        ({"allowed_hosts": ("*.example.org",)}, "localhost", 421),
        ({"allowed_hosts": ("a.b", "*")}, "evil.example.org", 200),
        ({"host": "0.0.0.0"}, "anything.example.org", 200),
    ],
)
def test_hosts(tmp_path: Path, settings: dict[str, Any], host: str, status: int) -> None:
    """A service on the loopback answers to its names only, elsewhere to those that the setting lists; what is no host is 400."""
    make_bundle(tmp_path)
    with (
        serving(Settings(models=tmp_path, **settings)) as inside,
        httpx.Client(base_url=f"http://127.0.0.1:{inside.port}") as client,
    ):
        page = client.get("/models", headers={"Host": host})
        forged = client.post("/predict", content=GOOD, headers={"Host": host, "Origin": f"http://{host}"})
        assert page.status_code == forged.status_code == status
        if status == 421:
            assert "allowed_hosts" in page.json()["error"]["message"]


def test_each_of_several_hosts_counts(server: Keyed) -> None:
    """A request that names two hosts is refused where one of them is not allowed."""
    for hosts in (["localhost", "evil.example.org"], ["evil.example.org", "localhost"]):
        lines = [
            "GET /models HTTP/1.1",
            *(f"Host: {host}" for host in hosts),
            bearer(server, "all"),
            "Connection: close",
        ]
        ((status, _, _),) = talk(_as_guarded(server), ("\r\n".join(lines) + "\r\n\r\n").encode())
        assert status in (400, 421)


def test_answers_carry_security_headers(server: Keyed) -> None:
    """Every answer, short or long way, refusal or not, says that browsers guess no type, and no cache keeps it."""
    for route, name in (
        ("prediction", "all"),
        ("prediction", "late"),
        ("models", "all"),
        ("report", "all"),
        ("start page", "all"),
        ("live", "all"),
    ):
        _, named, _ = ask(server, route, bearer(server, name))
        assert named["x-content-type-options"] == "nosniff", route
        assert named["cross-origin-resource-policy"] == "same-origin"
        assert named["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "is_allowed"),
    [
        ({"Host": "models.example.org"}, True),
        ({"Host": "127.0.0.1:8000", "X-Forwarded-Host": "models.example.org"}, True),
        ({"Host": "localhost", "Forwarded": "host=models.example.org"}, True),
        ({"Host": "evil.example.org", "X-Forwarded-Host": "models.example.org"}, False),
        ({"Host": "models.example.org", "X-Forwarded-Host": "evil.example.org"}, False),
        ({"Host": "127.0.0.1:8000", "X-Forwarded-Host": "models.example.org, evil.example.org"}, False),
        ({"Host": "127.0.0.1:8000"}, False),
    ],
)
def test_hosts_behind_a_proxy(tmp_path: Path, headers: dict[str, str], is_allowed: bool) -> None:  # noqa: FBT001
    """The host that a trusted proxy names must be allowed; a page that rebinds its name cannot pass by naming another."""
    make_bundle(tmp_path)
    settings = Settings(models=tmp_path, allowed_hosts=("models.example.org",), trusted_proxies=("127.0.0.0/8",))
    with serving(settings) as inside, httpx.Client(base_url=f"http://127.0.0.1:{inside.port}") as client:
        assert client.get("/models", headers=headers).status_code == (200 if is_allowed else 421)
        own = {"Origin": "https://models.example.org", **headers}
        assert client.post("/predict", content=GOOD, headers=own).status_code == (200 if is_allowed else 421)
