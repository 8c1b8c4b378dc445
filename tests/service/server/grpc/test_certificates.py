"""Client certificates over gRPC: they open what they open over HTTP, on every worker, before a message is received."""

import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from batchproof.service.access.patterns import CertifiedName
from batchproof.service.configuration.settings import Settings
from batchproof.service.server.grpc.health import HEALTH_SERVICE
from batchproof.service.server.grpc.messages import SERVICE, classes
from batchproof.service.server.grpc.peers import names_of
from batchproof.service.server.start.serving import open_to_all
from tests.bundles import NUMBERS, make_bundle
from tests.live import free_port, live
from tests.service.server.serving.test_authorization import write_keys
from tests.service.server.sockets.test_tls import Authority, client, flags_of

MESSAGES = classes()
CODE = grpc.StatusCode
PATTERNS = {
    "uri": "spiffe://example.org/batch/*", "host": "*.batch.example.org", "mail": "*@batch.example.org", "subject": "CN=batch",
}  # fmt: skip
NAMES: dict[str, x509.GeneralName] = {
    "uri": x509.UniformResourceIdentifier("spiffe://example.org/batch/7"),
    "host": x509.DNSName("one.batch.example.org"),
    "mail": x509.RFC822Name("ada@batch.example.org"),
}


class Service:
    """A server that callers reach with certificates."""

    def __init__(self, folder: Path, entries: str) -> None:
        self.folder, self.port = folder, free_port()
        make_bundle(folder / "models", inputs=NUMBERS)
        self.authority = Authority(folder)
        self.keys = write_keys(folder / "keys.toml", {"keyed": {"scopes": ["metrics"]}})
        with (folder / "keys.toml").open("a") as file:
            file.write("\n" + entries)
        self.pair = self.renew()
        certain = ["--tls-client-ca", self.authority.file, "--tls-client", "require"]
        rest = ["--keys-file", folder / "keys.toml", "--grpc-port", self.port]
        self.flags = flags_of(self.pair, *certain, *rest)

    def renew(self) -> tuple[Path, Path]:
        """Write a new certificate of the server, and its key."""
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return self.authority.certify("localhost", x509.DNSName("localhost"), address)

    @contextmanager
    def channel(self, certificate: tuple[Path, Path] | None) -> Iterator[grpc.Channel]:
        """Connect with a certificate, or with none."""
        pair = () if certificate is None else (certificate[1].read_bytes(), certificate[0].read_bytes())
        trusted = grpc.ssl_channel_credentials(self.authority.file.read_bytes(), *pair)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{self.port}", trusted, options) as channel:
            yield channel

    def serials(self, http_port: int, certificate: tuple[Path, Path]) -> set[str]:
        """Return the serial numbers of the server's certificates over gRPC and HTTP."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.load_cert_chain(*certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        found = set()
        for port in (self.port, http_port):
            plain = socket.create_connection(("127.0.0.1", port), timeout=20)
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                found.add(str((connection.getpeercert() or {})["serialNumber"]))
        return found

    def code(self, certificate: tuple[Path, Path] | None, method: str, **sent: Any) -> grpc.StatusCode:
        """Return how one call on a connection of its own ends."""
        with self.channel(certificate) as channel:
            return end_of(channel, method, **sent).code()


def end_of(
    channel: grpc.Channel, method: str, key: str = "", headers: Sequence[tuple[str, ...]] = (), **fields: Any
) -> Any:
    """Return one call, ended."""
    name = method if f"{method}Request" in MESSAGES else "ServerLive"
    path = f"/{HEALTH_SERVICE if method == 'Check' else SERVICE}/{method}"
    call = channel.unary_unary(
        path, MESSAGES[f"{name}Request"].SerializeToString, MESSAGES[f"{name}Response"].FromString
    )
    metadata = [*(("x-api-key", key) for _ in (key,) if key), *((name.lower(), value) for name, value in headers)]
    ended = call.future(MESSAGES[f"{name}Request"](**fields), metadata=metadata, timeout=10.0)
    ended.code()
    return ended


def entry(name: str, certificate: str, *scopes: str, models: str = "*") -> str:
    return f'[[keys]]\nname = "{name}"\ncertificate = "{certificate}"\nscopes = {json.dumps(scopes)}\nmodels = ["{models}"]\n'


@pytest.mark.parametrize("workers", [1, 2])
def test_a_certificate_opens_what_its_entry_says(tmp_path: Path, workers: int) -> None:
    """By each kind of name a certificate is known over gRPC and HTTP alike: same scopes, same models, same refusals."""
    entries = [entry(f"by-{kind}", pattern, "predict") for kind, pattern in PATTERNS.items()]
    entries += [
        entry("scraper", "scraper.example.org", "metrics"),
        entry("other", "other.*", "predict", models="price-*"),
    ]
    service = Service(tmp_path, "\n".join(entries))
    certify = service.authority.certify
    known = [certify(f"by-{kind}", name) for kind, name in NAMES.items()] + [certify("batch")]
    scraper = certify("scraper", x509.DNSName("scraper.example.org"))
    elsewhere = certify("elsewhere", x509.DNSName("other.example.org"))
    unknown = certify("unknown", x509.DNSName("example.org"), x509.UniformResourceIdentifier("spiffe://example.org/x"))
    stranger = Authority(tmp_path, "stranger").certify("batch-2", NAMES["uri"])
    model = {"name": "flowers"}
    with live(tmp_path / "models", *service.flags, "--workers", str(workers)) as server:
        for certificate in known:
            assert service.code(certificate, "ModelMetadata", **model) is CODE.OK
            assert (
                service.code(certificate, "ModelInfer", model_name="flowers") is CODE.INVALID_ARGUMENT
            )  # it has no input
            assert service.code(certificate, "RepositoryModelLoad", model_name="flowers") is CODE.PERMISSION_DENIED
            with client(server, service.authority, certificate) as caller:
                assert caller.get("/models/flowers").status_code == 200
                assert caller.post("/v2/repository/models/flowers/load").status_code == 403
        for _ in range(2 * workers):
            assert service.code(scraper, "ModelMetadata", **model) is CODE.PERMISSION_DENIED
            assert service.code(elsewhere, "ModelMetadata", **model) is CODE.PERMISSION_DENIED
            assert service.code(unknown, "ModelMetadata", **model) is CODE.UNAUTHENTICATED
            assert service.code(unknown, "Nothing") is CODE.UNAUTHENTICATED
            assert service.code(unknown, "Check") is CODE.OK
            for refused in (None, stranger):
                assert service.code(refused, "ServerLive") is CODE.UNAVAILABLE
        assert service.code(known[0], "Nothing") is CODE.UNIMPLEMENTED
        # A key counts before the certificate, a wrong one too.
        assert service.code(known[0], "ModelMetadata", key=service.keys["keyed"], **model) is CODE.PERMISSION_DENIED
        assert service.code(known[0], "ModelMetadata", key="bp_wrong", **model) is CODE.UNAUTHENTICATED


def test_it_is_decided_before_the_message(tmp_path: Path) -> None:
    """A certificate that opens nothing is refused although its messages never come; a health check goes on being watched."""
    service = Service(tmp_path, entry("batch", "CN=batch", "predict"))
    certificates = [service.authority.certify(name) for name in ("eve", "batch")]
    is_over = threading.Event()

    def never() -> Iterator[bytes]:
        is_over.wait(20)
        yield b""

    with live(tmp_path / "models", *service.flags):
        with service.channel(certificates[0]) as channel:
            answers = channel.stream_stream(f"/{SERVICE}/ModelInfer")(never(), timeout=20.0)
            with pytest.raises(grpc.RpcError) as refused:
                next(answers)
            is_over.set()
            assert refused.value.code() is CODE.UNAUTHENTICATED
        with service.channel(certificates[1]) as channel:
            watch = channel.unary_stream(f"/{HEALTH_SERVICE}/Watch")(b"", timeout=20.0)
            assert MESSAGES["CheckResponse"].FromString(next(watch)).status == 1
            watch.cancel()
            nothing = channel.stream_stream(f"/{SERVICE}/ModelInfer")(iter(()), timeout=20.0)
            with pytest.raises(grpc.RpcError, match="takes one message"):
                next(nothing)


def test_calls_can_need_a_certificate_where_http_only_asks(tmp_path: Path) -> None:
    """`tls_client = ask` asks over HTTP only; `grpc_client_certificates` makes calls need one."""
    service = Service(tmp_path, entry("batch", "CN=batch", "predict"))
    batch = service.authority.certify("batch")
    asks = [*service.flags, "--tls-client", "ask"]
    with live(tmp_path / "models", *asks):
        assert service.code(batch, "ModelMetadata", name="flowers") is CODE.UNAUTHENTICATED
        assert service.code(None, "ServerLive") is CODE.OK
    with live(tmp_path / "models", *asks, "--grpc-client-certificates", "true") as server:
        assert service.code(batch, "ModelMetadata", name="flowers") is CODE.OK
        assert service.code(None, "ServerLive") is CODE.UNAVAILABLE
        with client(server, service.authority) as caller:
            assert caller.get("/health/live").status_code == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_renewal_ends_no_call(tmp_path: Path, workers: int) -> None:
    """New files are used for new connections, half-written ones never, and meanwhile no call fails, old connection or new."""
    service = Service(tmp_path, entry("batch", "CN=batch", "predict"))
    batch = service.authority.certify("batch")
    codes: list[grpc.StatusCode] = []
    is_over = threading.Event()

    def keep_calling(*, is_new: bool) -> None:
        while not is_over.is_set():
            with service.channel(batch) as channel:
                while not is_over.is_set():
                    codes.append(end_of(channel, "ModelMetadata", name="flowers").code())
                    if is_new:
                        break

    with live(tmp_path / "models", *service.flags, "--workers", str(workers)) as server:
        callers = [threading.Thread(target=keep_calling, kwargs={"is_new": is_new}) for is_new in (True, True, False)]
        for caller in callers:
            caller.start()
        before = service.serials(server.port, batch)
        assert len(before) == 1
        whole = service.pair[1].read_bytes()
        service.pair[1].write_text("half of a new key")
        time.sleep(2.5)
        assert service.serials(server.port, batch) == before
        service.pair[1].write_bytes(whole)
        removed = Authority(tmp_path, "removed").certify("batch-3")
        service.renew()
        until_s = time.monotonic() + 15
        while service.serials(server.port, batch) & before and time.monotonic() < until_s:
            time.sleep(0.1)
        time.sleep(1.5)  # each worker looks for itself
        for _ in range(4):
            assert not service.serials(server.port, batch) & before
        assert service.code(removed, "ServerLive") is CODE.UNAVAILABLE
        is_over.set()
        for caller in callers:
            caller.join()
    assert len(codes) > 20
    assert set(codes) == {CODE.OK}


def test_names_that_are_no_text_fit_nothing() -> None:
    """Each kind of name keeps its kind; bytes that are no UTF-8 are left out."""
    found = {
        "peer_uri": [b"spiffe://a/b", b"\xff"], "peer_dns": [b"h"], "peer_email": [b"a@b"], "x509_common_name": [b"c"],
        "x509_subject_alternative_name": [b"other"], "peer_ip": [b"1.2.3.4"],
    }  # fmt: skip
    kinds = [("host", "h"), ("mail", "a@b"), ("uri", "spiffe://a/b"), ("subject", "CN=c")]
    assert names_of(found) == tuple(CertifiedName(*kind) for kind in kinds)  # type: ignore[arg-type]
    assert names_of({}) == ()


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ({}, True),
        ({"tls_client_ca": "a"}, True),  # callers are asked for a certificate and need none
        ({"tls_client_ca": "a", "tls_client": "require"}, False),
        ({"tls_client": "require"}, True),
        ({"keys_file": "k"}, False),
        ({"host": "127.0.0.1"}, False),
    ],
)
def test_who_is_told_that_everybody_may_call(settings: dict[str, Any], is_open: bool) -> None:  # noqa: FBT001
    """A service that strangers reach from elsewhere without key or certificate says so at its start."""
    assert open_to_all(Settings(**{"host": "0.0.0.0", **settings})) is is_open
