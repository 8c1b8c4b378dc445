"""TLS over HTTP and gRPC, with and without workers: what is accepted, who is known by a certificate, and renewal."""

import datetime as dt
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import SettingError
from batchproof.service.server.grpc.messages import SERVICE, classes
from batchproof.service.server.serving import app
from tests.bundles import make_bundle
from tests.certificates import of_authority, of_holder
from tests.live import Live, free_port, live
from tests.service.server.serving.test_gate import GOOD

DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)


class Authority:
    """Certifies servers and clients."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = of_authority(self._builder(self.name, self.key), self.key).sign(self.key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def certify(self, name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
        """Return (certificate, key) of `name`, in files of that name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            of_holder(self._builder(subject, key), self.key)
            .add_extension(x509.SubjectAlternativeName([*names]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        paths = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        kind, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, secret))
        return paths

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> tuple[Path, Path]:
    """Return the server's certificate and key."""
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return authority.certify("server", x509.DNSName("localhost"), address)


def flags_of(pair: tuple[Path, Path], *more: object) -> list[str]:
    return ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1]), *map(str, more)]


def client(server: Live, authority: Authority, certificate: tuple[Path, Path] | None = None) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(authority.file))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return httpx.Client(base_url=f"https://127.0.0.1:{server.port}", verify=context, timeout=30)


@pytest.fixture(params=[1, 2])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_predictions_pages_and_calls_are_encrypted(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path], workers: int
) -> None:
    """With a certificate HTTP is HTTPS and gRPC is encrypted, on every worker; plain text gets no answer and harms nobody."""
    make_bundle(tmp_path / "models")
    rpc_port = free_port()
    with live(tmp_path / "models", *flags_of(pair, "--workers", workers, "--grpc-port", rpc_port)) as server:
        for _ in range(4):  # several connections, so that each worker has one
            with client(server, authority) as caller:
                assert caller.post("/predict", content=GOOD).status_code == 200
                assert caller.get("/models").status_code == 200
                assert caller.post("/predict", content=b"{", headers={"content-type": "text/csv"}).status_code in (
                    400,
                    422,
                )
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain:
                plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert not plain.makefile("rb").read().startswith(b"HTTP/1.1 200")
        credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
        with grpc.secure_channel(f"localhost:{rpc_port}", credentials) as channel:
            messages = classes()
            ask = channel.unary_unary(
                f"/{SERVICE}/ServerLive",
                messages["ServerLiveRequest"].SerializeToString,
                messages["ServerLiveResponse"].FromString,
            )
            assert ask(messages["ServerLiveRequest"](), timeout=30, wait_for_ready=True).live


def test_old_versions_are_refused(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """TLS 1.1 gets no connection."""
    make_bundle(tmp_path / "models")
    with live(tmp_path / "models", *flags_of(pair)) as server:
        tried = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            input=b"", capture_output=True, check=False, timeout=30,
        )  # fmt: skip
        assert tried.returncode != 0
        assert b"BEGIN CERTIFICATE" not in tried.stdout


def test_a_handshake_has_a_time_limit(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path], workers: int
) -> None:
    """Whoever connects and does not finish its handshake is cut off after `read_timeout_s`, over HTTP and gRPC."""
    make_bundle(tmp_path / "models")
    rpc_port = free_port()
    flags = flags_of(pair, "--workers", workers, "--grpc-port", rpc_port, "--read-timeout-s", 1)
    begun = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # of a ClientHello
    with live(tmp_path / "models", *flags) as server:
        held = [
            (socket.create_connection(("127.0.0.1", port), timeout=25), sent)
            for port in (server.port, rpc_port)
            for sent in (b"", begun)
            for _ in range(10)
        ]
        for connection, sent in held:
            connection.sendall(sent)
        with client(server, authority) as caller:
            assert caller.post("/predict", content=GOOD).status_code == 200
        for connection, _ in held:
            with connection:
                while connection.recv(1000):  # an alert may come before the end; without an end it times out
                    pass


def test_a_caller_cannot_ask_for_one_handshake_after_another(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """A connection of TLS 1.2 is not renegotiated."""
    make_bundle(tmp_path / "models")
    with live(tmp_path / "models", *flags_of(pair)) as server:
        tried = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_2"],
            input=b"R\n", capture_output=True, check=False, timeout=30,
        )  # fmt: skip
        assert b"RENEGOTIATING" in tried.stdout + tried.stderr
        assert b"no renegotiation" in tried.stdout + tried.stderr


def test_client_certificates(tmp_path: Path, authority: Authority, pair: tuple[Path, Path], workers: int) -> None:
    """A certificate opens what its entry in the file of keys says; another or none opens nothing; `require` ends the connection."""
    make_bundle(tmp_path / "models")
    (tmp_path / "keys.toml").write_text(
        '[[keys]]\nname = "batch"\ncertificate = "spiffe://example.org/batch/*"\nscopes = ["predict"]\n'
    )
    batch = authority.certify("batch", x509.UniformResourceIdentifier("spiffe://example.org/batch/7"))
    other = authority.certify("other", x509.UniformResourceIdentifier("spiffe://example.org/other"))
    stranger = Authority(tmp_path, "stranger").certify(
        "eve", x509.UniformResourceIdentifier("spiffe://example.org/batch/7")
    )
    flags = flags_of(
        pair, "--tls-client-ca", authority.file, "--keys-file", tmp_path / "keys.toml", "--workers", workers
    )
    with live(tmp_path / "models", *flags) as server:
        for certificate, status in ((batch, 200), (other, 401), (None, 401)):
            with client(server, authority, certificate) as caller:
                assert caller.post("/predict", content=GOOD).status_code == status
                assert caller.get("/metrics").status_code == (403 if status == 200 else 401)
        with client(server, authority, stranger) as caller, pytest.raises(httpx.HTTPError):
            caller.post("/predict", content=GOOD)
    with live(tmp_path / "models", *flags, "--tls-client", "require") as server:
        with client(server, authority) as caller, pytest.raises(httpx.HTTPError):
            caller.get("/health/live")
        with client(server, authority, batch) as caller:
            assert caller.post("/predict", content=GOOD).status_code == 200


def test_renewal_loses_no_request(tmp_path: Path, authority: Authority, pair: tuple[Path, Path], workers: int) -> None:
    """A new certificate is used for new connections within seconds, under load and without a failed request."""
    make_bundle(tmp_path / "models")
    with live(tmp_path / "models", *flags_of(pair, "--workers", workers)) as server:
        before = serial_of(server)
        statuses: list[int] = []
        is_over = threading.Event()

        def keep_asking() -> None:
            while not is_over.is_set():
                with client(server, authority) as caller:
                    statuses.extend(caller.post("/predict", content=GOOD).status_code for _ in range(5))

        callers = [threading.Thread(target=keep_asking) for _ in range(2)]
        for caller in callers:
            caller.start()
        pair[1].write_text("half of a new key")  # a pair that does not fit is never used
        time.sleep(1.5)
        assert serial_of(server) == before
        authority.certify("server", x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        deadline_s = time.monotonic() + 15
        while (now := serial_of(server)) == before and time.monotonic() < deadline_s:
            time.sleep(0.1)
        is_over.set()
        for caller in callers:
            caller.join()
        assert now != before  # of the worker that was asked: each looks by itself
    assert statuses
    assert set(statuses) == {200}


def test_a_hangup_reads_certificates_at_once(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path], workers: int
) -> None:
    """SIGHUP has every worker load the certificate again, also where its files look as they did before."""
    make_bundle(tmp_path / "models")
    sizes = [path.stat().st_size + 20 for path in pair]  # room for what certificates differ by in length
    _pad(pair, sizes)
    with live(tmp_path / "models", *flags_of(pair, "--workers", workers)) as server:
        before, stats = serial_of(server), [path.stat() for path in pair]
        authority.certify("server", x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        _pad(pair, sizes)
        for path, was in zip(pair, stats, strict=True):
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        os.kill(server.process.pid, signal.SIGHUP)
        deadline_s = time.monotonic() + 20
        while before in (serials := {serial_of(server) for _ in range(6)}) and time.monotonic() < deadline_s:
            time.sleep(0.05)
    assert before not in serials


def _pad(paths: Sequence[Path], sizes: Sequence[int]) -> None:
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(path.read_bytes().ljust(size, b"\n"))


def test_an_authority_that_is_removed_counts_no_longer(
    tmp_path: Path, authority: Authority, pair: tuple[Path, Path], workers: int
) -> None:
    """Once the file of client authorities changes, certificates of those that left it open no new connection."""
    make_bundle(tmp_path / "models")
    (tmp_path / "keys.toml").write_text('[[keys]]\nname = "batch"\ncertificate = "*"\nscopes = ["predict"]\n')
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(old.file.read_bytes())
    clients = [issuer.certify(name, x509.DNSName("a.b")) for issuer, name in ((old, "olga"), (new, "nora"))]
    flags = flags_of(pair, "--tls-client-ca", trusted, "--tls-client", "require", "--workers", workers)
    flags += ["--keys-file", str(tmp_path / "keys.toml")]

    def opens(server: Live, certificate: tuple[Path, Path]) -> bool:
        try:
            with client(server, authority, certificate) as caller:
                return caller.post("/predict", content=GOOD).status_code == 200
        except httpx.HTTPError:
            return False

    with live(tmp_path / "models", *flags) as server:
        assert [opens(server, certificate) for certificate in clients] == [True, False]
        trusted.write_bytes(new.file.read_bytes())
        deadline_s = time.monotonic() + 15
        while opens(server, clients[0]) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        time.sleep(1.2 * (workers - 1))  # each worker looks for itself
        for _ in range(4):
            assert [opens(server, certificate) for certificate in clients] == [False, True]


def serial_of(server: Live) -> int:
    pem = ssl.get_server_certificate(("127.0.0.1", server.port), timeout=30)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def test_wrong_files_stop_the_start(tmp_path: Path, authority: Authority, pair: tuple[Path, Path]) -> None:
    """A file that is missing, is no certificate or does not fit its key stops the start with one sentence that names it."""
    make_bundle(tmp_path / "models")
    other = authority.certify("other")
    (tmp_path / "text").write_text("hello")
    cases = [
        ({"tls_cert": pair[0]}, "tls_cert needs tls_key"),
        ({"tls_key": pair[1]}, "tls_key needs tls_cert"),
        ({"tls_client_ca": authority.file}, "tls_client_ca needs tls_cert"),
        ({"tls_cert": tmp_path / "absent", "tls_key": pair[1]}, "tls_cert: .*absent cannot be read"),
        ({"tls_cert": tmp_path / "text", "tls_key": pair[1]}, "holds no certificate that fits"),
        ({"tls_cert": pair[0], "tls_key": other[1]}, "holds no certificate that fits"),
        (
            {"tls_cert": pair[0], "tls_key": pair[1], "tls_client_ca": tmp_path / "text"},
            "tls_client_ca: .*holds no certificate",
        ),
    ]
    for files, sentence in cases:
        settings = Settings(models=tmp_path / "models", **{name: str(path) for name, path in files.items()})  # type: ignore[arg-type]
        with pytest.raises(SettingError, match=sentence):
            app.load(settings)
