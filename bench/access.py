"""What keys and TLS cost: loads A and B against one service without, with 1 000 keys, with TLS, and with both.

    python -m bench.access --rounds 10 --seconds 2

The services run side by side, one is asked at a time, and each round asks all of them in another order. What is compared is
the CPU time of the service for one request, which neighbours on the machine disturb less than rates: the median over the
rounds of the ratio within one round.
"""

import argparse
import contextlib
import datetime as dt
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from batchproof.service.access import keys_file
from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.serving import app
from bench.bodies import own
from bench.loads import LOADS, SCRIPT, WORK, read, require_wrk
from bench.make_model import write_all
from bench.server import HOST, free_port, usage

KEYS = 1000
LOAD_NAMES = ("A", "B")


@dataclass(frozen=True)
class Variant:
    """One way to serve."""

    name: str
    flags: tuple[str, ...]
    scheme: str = "http"
    headers: tuple[str, ...] = ()


def variants(folder: Path) -> list[Variant]:
    """Write keys and a certificate into `folder`; return what is compared, the plain service first."""
    secrets = [keys_file.new_key() for _ in range(KEYS)]
    entries = [
        keys_file.Key(name=f"caller-{place}", sha256=keys_file.digest_of(secret), scopes=("predict",))
        for place, secret in enumerate(secrets)
    ]
    (folder / "keys.toml").write_text("\n".join(map(keys_file.entry_text, entries)))
    keyed = ("--keys-file", str(folder / "keys.toml"))
    tls = ("--tls-cert", str(folder / "server.crt"), "--tls-key", str(folder / "server.key"))
    certify(folder)
    header = (f"Authorization: Bearer {secrets[KEYS // 2]}",)
    return [
        Variant("plain", ()),
        Variant(f"{KEYS} keys", keyed, headers=header),
        Variant("TLS", tls, "https"),
        Variant("TLS and keys", (*tls, *keyed), "https", header),
    ]


def certify(folder: Path) -> None:
    """Write a certificate of P-256 for localhost that signs itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    certificate = builder.not_valid_after(now + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    kind, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, secret))


def decision(models: Path, folder: Path, rounds: int = 15, count: int = 20_000) -> str:
    """Return what reading a head and deciding on it costs in this process, the least of interleaved rounds."""
    secret = keys_file.new_key()
    entry = keys_file.Key(name="caller", sha256=keys_file.digest_of(secret), scopes=("predict",))
    path = folder / "decision.toml"
    path.write_text((folder / "keys.toml").read_text() + "\n" + keys_file.entry_text(entry))
    plain, keyed = (
        AsgiApp(app.load(Settings(models=models, keys_file=file))).router.resolve for file in ("", str(path))
    )
    headers = [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json"), (b"content-length", b"300")]
    with_key = [*headers, (b"authorization", b"Bearer " + secret.encode())]

    def once_us(resolve: Callable[[RequestHead], object], sent: list[tuple[bytes, bytes]]) -> float:
        before_s = time.process_time()
        for _ in range(count):
            resolve(RequestHead("POST", "/predict", b"", sent))
        return (time.process_time() - before_s) / count * 1e6

    taken = [(once_us(plain, headers), once_us(keyed, with_key)) for _ in range(rounds)]
    without_us, with_us = (min(column) for column in zip(*taken, strict=True))
    return f"{without_us:.2f} us without keys, {with_us:.2f} us with {KEYS + 1} keys"


@contextlib.contextmanager
def served(variant: Variant, models: Path) -> Iterator[tuple[int, int]]:
    """Serve until the block ends; gives (port, process id)."""
    port = free_port()
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", str(port)]
    process = subprocess.Popen([*command, *variant.flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > end_s:
                sys.exit(f"the service {variant.name!r} did not start")
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def cpu_us(variant: Variant, port: int, pid: int, connections: int, body: Path, seconds: float) -> float:
    """Return the service's CPU time for one request, in microseconds."""
    options = ["-t1", f"-c{connections}", f"-d{round(seconds)}s", "-s", str(SCRIPT)]
    address = f"{variant.scheme}://{HOST}:{port}/predict"
    headers = ["Content-Type: application/json", *variant.headers]
    before_s = usage([pid]).cpu_s
    done = subprocess.run(
        ["wrk", *options, address, "--", str(body), *headers], capture_output=True, text=True, timeout=seconds + 60, check=False
    )  # fmt: skip
    used_s = usage([pid]).cpu_s - before_s
    result = read(done.stdout + done.stderr, 1)
    if result.refused or result.broken:
        sys.exit(f"{variant.name}: {result.refused} requests refused, {result.broken} broken")
    return used_s / (result.requests_per_s * seconds) * 1e6


def main(arguments: list[str]) -> None:
    """Compare, and print one line for each load and way to serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.access", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each is asked")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each load")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles")
    chosen = parser.parse_args(arguments)
    require_wrk()
    if not (chosen.work / "peer.onnx").exists():
        write_all(chosen.work)
    models = chosen.work / "reference"
    request = own(models)["positional_1"]
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        body = folder / "body"
        body.write_bytes(request.body)
        ways = variants(folder)
        sys.stdout.write(f"the decision on one request: {decision(models, folder)}\n")
        sys.stdout.flush()
        compared = {variant: stack.enter_context(served(variant, models)) for variant in ways}
        for load in LOAD_NAMES:
            compare(load, compared, body, chosen.rounds, chosen.seconds)


def compare(load: str, compared: dict[Variant, tuple[int, int]], body: Path, rounds: int, seconds: float) -> None:
    """Ask each variant once a round, in an order of chance, and print medians."""
    order, connections = list(compared), LOADS[load].connections
    taken: dict[str, list[float]] = {variant.name: [] for variant in compared}
    for place in range(rounds + 1):
        random.Random(place).shuffle(order)
        for variant in order:
            used_us = cpu_us(variant, *compared[variant], connections, body, seconds if place else 1)
            if place:  # the first is to warm up
                taken[variant.name].append(used_us)
    plain = taken[next(iter(compared)).name]
    for name, values in taken.items():
        ratios = sorted(value / base for value, base in zip(values, plain, strict=True))
        median = statistics.median(ratios)
        quarter = len(ratios) // 4
        sys.stdout.write(
            f"load {load}  {name:14} {statistics.median(values):7.1f} us of CPU a request  "
            f"{median:.3f} of plain (half of the rounds: {ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
