"""What keys and TLS cost: loads A and B against one service without, with 1 000 keys, with TLS, and with both.

    python -m bench.access --rounds 10 --seconds 2

The services run side by side, one is asked at a time, and each round asks all of them in another order. What is compared is
the CPU time of the service for one request, which neighbours on the machine disturb less than rates: the median over the
rounds of the ratio within one round.
"""

import argparse
import contextlib
import datetime as dt
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
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
from bench.loads import WORK, require_wrk
from bench.make_model import write_all
from bench.side_by_side import Variant, served, take_turns

KEYS = 1000
LOAD_NAMES = ("A", "B")


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
        Variant("plain"),
        Variant(f"{KEYS} keys", keyed, headers=header),
        Variant("TLS", tls, scheme="https"),
        Variant("TLS and keys", (*tls, *keyed), scheme="https", headers=header),
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
        compared = {variant.name: (variant, *stack.enter_context(served(variant, models))) for variant in ways}
        for load in LOAD_NAMES:
            compare(load, compared, body, chosen.rounds, chosen.seconds)


def compare(load: str, compared: dict[str, tuple[Variant, int, int]], body: Path, rounds: int, seconds: float) -> None:
    """Let the services take turns, and print medians; the first of `compared` is the plain one."""
    turns = take_turns(compared, load, body, rounds, seconds)
    taken = {name: [figures.cpu_us for figures in turn] for name, turn in turns.items()}
    plain = next(iter(taken.values()))
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
