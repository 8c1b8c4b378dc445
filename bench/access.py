"""What keys and TLS cost: loads A and B against one service without, with 1 000 keys, with TLS, and with both.

    python -m bench.access --rounds 10 --seconds 2

First in process, in turns without keys and with them: reading a head and deciding on it, in a loop of nothing else; and
the whole request on one connection without a socket, where the engine fills the caches between two heads. Then the
services run side by side, one is asked at a time, and each round asks all of them in another order. What is compared is
the CPU time of the service for one request, which neighbours on the machine disturb less than rates: the median over the
rounds of the ratio within one round.

A request with a key is 65 bytes longer, and a service without keys parses them too: "the header alone" is that service,
asked with the key. "plain again" is a second service like the first: how far it is from 1 is what the place of a process
in memory does, and the ratios of the others hold no better than that. So `--starts` starts all of them anew.
"""

import argparse
import contextlib
import datetime as dt
import gc
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from batchproof.service.access import keys_file
from batchproof.service.configuration.settings import Settings
from batchproof.service.protocols.head import RequestHead
from batchproof.service.server.http.asgi import AsgiApp
from batchproof.service.server.http.rules import standard_gate
from batchproof.service.server.serving import app
from bench.bodies import own
from bench.loads import WORK, require_wrk
from bench.make_model import write_missing
from bench.one_connection import Connection, raw
from bench.side_by_side import Asked, Variant, served, take_turns

KEYS = 1000
LOAD_NAMES = ("A", "B")
PLAIN, HEADER, AGAIN, KEYED = "plain", "the header alone", "plain again", f"{KEYS} keys"
BURST, BURSTS, PROCESSES = 10, 600, 5  # requests asked in a row, how often, in how many processes


class Files(NamedTuple):
    """What the services are started with."""

    keys: Path
    certificate: Path
    private_key: Path
    header: str  # with one of the keys


def write_files(folder: Path) -> Files:
    """Write keys and a certificate into `folder`."""
    secrets = [keys_file.new_key() for _ in range(KEYS)]
    entries = [
        keys_file.Key(name=f"caller-{place}", sha256=keys_file.digest_of(secret), scopes=("predict",))
        for place, secret in enumerate(secrets)
    ]
    keys = folder / "keys.toml"
    keys.write_text("\n".join(map(keys_file.entry_text, entries)))
    certify(folder)
    return Files(keys, folder / "server.crt", folder / "server.key", f"Authorization: Bearer {secrets[KEYS // 2]}")


def variants(files: Files, *, has_tls: bool) -> list[Variant]:
    """Return what is compared, the plain service first."""
    keyed = ("--keys-file", str(files.keys))
    compared = [Variant(PLAIN), Variant(AGAIN), Variant(KEYED, keyed, headers=(files.header,))]
    if has_tls:
        tls = ("--tls-cert", str(files.certificate), "--tls-key", str(files.private_key))
        compared += [
            Variant("TLS", tls, scheme="https"),
            Variant("TLS and keys", (*tls, *keyed), scheme="https", headers=(files.header,)),
        ]
    return compared


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


def heads(models: Path, keys: Path, header: str, rounds: int = 100, count: int = 1000) -> dict[str, float]:
    """Return the microseconds of reading a head and deciding on it, the least of the rounds."""
    keyed = AsgiApp(app.load(Settings(models=models, keys_file=str(keys))))
    without = AsgiApp(keyed.app, standard_gate(keyed.app.settings))
    plain = [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json"), (b"content-length", b"300")]
    name, value = header.encode().split(b": ")
    sent = [*plain, (name.lower(), value)]
    cases = {PLAIN: (without, plain), HEADER: (without, sent), KEYED: (keyed, sent)}
    least = dict.fromkeys(cases, math.inf)
    for _ in range(rounds):
        for case, (application, headers) in cases.items():
            resolve, start_s = application.router.resolve, time.thread_time()
            for _ in range(count):
                resolve(RequestHead("POST", "/predict", b"", headers))
            least[case] = min(least[case], (time.thread_time() - start_s) / count * 1e6)
    return least


async def bursts(models: Path, keys: Path, header: str) -> dict[str, float]:
    """Return the microseconds of a request of load A in this process, by what it carries and who checks it.

    Each is what a tenth of its bursts stay below: others had other work beside them.
    """
    request = own(models)["positional_1"]
    service = app.load(Settings(models=models, inline_s=1, keys_file=str(keys)))
    keyed, without = Connection(service), Connection(service, standard_gate(service.settings))
    cases = {
        PLAIN: (without, raw(request)),
        HEADER: (without, raw(request, header)),
        KEYED: (keyed, raw(request, header)),
    }
    order = list(cases)
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for connection, sent in cases.values():
        await connection.ask(sent, 4 * BURST)
    gc.collect()
    gc.freeze()
    for place in range(BURSTS):
        random.Random(place).shuffle(order)
        for name in order:
            connection, sent = cases[name]
            taken[name].append(await connection.ask(sent, BURST))
    return {name: statistics.quantiles(values, n=10)[0] for name, values in taken.items()}


def in_process(models: Path, files: Files) -> None:
    """Print what a head and a request cost without a socket: medians of several processes, and the differences."""
    for what in ("head", "request"):
        command = [
            sys.executable,
            "-m",
            "bench.access",
            "--in-process",
            what,
            str(models),
            str(files.keys),
            files.header,
        ]
        printed = [
            json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(PROCESSES)
        ]
        for name in printed[0]:
            values = [one[name] for one in printed]
            more = [one[name] - one[PLAIN] for one in printed]
            sys.stdout.write(
                f"in process  {name:16} {statistics.median(values):6.2f} us of CPU a {what:7}  "
                f"{statistics.median(more):+.2f} us ({min(more):+.2f} to {max(more):+.2f})\n"
            )
            sys.stdout.flush()


def compare(models: Path, files: Files, chosen: argparse.Namespace) -> None:
    """Let the services take turns in several starts, and print medians."""
    taken: dict[str, dict[str, list[Asked]]] = {load: {} for load in chosen.loads}
    with tempfile.NamedTemporaryFile() as body:
        body.write(own(models)["positional_1"].body)
        body.flush()
        for _ in range(chosen.starts):
            with contextlib.ExitStack() as stack:
                ways = variants(files, has_tls=not chosen.without_tls)
                compared = {variant.name: (variant, *stack.enter_context(served(variant, models))) for variant in ways}
                compared[HEADER] = (Variant(HEADER, headers=(files.header,)), *compared[PLAIN][1:])
                for load in chosen.loads:
                    turns = take_turns(compared, load, Path(body.name), chosen.rounds, chosen.seconds)
                    for name, figures in turns.items():
                        taken[load].setdefault(name, []).extend(figures)
    for load, named in taken.items():
        for name, figures in named.items():
            sys.stdout.write(f"load {load}  {name:16} {described(figures, named[PLAIN])}\n")
        ratios = [one.cpu_us / other.cpu_us for one, other in zip(named[KEYED], named[HEADER], strict=True)]
        sys.stdout.write(f"load {load}  {KEYED} beside the header alone: {middle(ratios)}\n")
        sys.stdout.flush()


def described(figures: list[Asked], plain: list[Asked]) -> str:
    """Return the medians of one way to serve, beside those of the plain one."""
    cpu_us, rate, p99_ms = (statistics.median(column) for column in zip(*figures, strict=True))
    ratios = [one.cpu_us / base.cpu_us for one, base in zip(figures, plain, strict=True)]
    return f"{cpu_us:6.1f} us of CPU a request, {middle(ratios)} of plain  {rate:6.0f} requests/s  p99 {p99_ms:.2f} ms"


def middle(ratios: list[float]) -> str:
    """Return the median, and between what half of the ratios are."""
    low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"{median:.3f} ({low:.3f} to {high:.3f})"


def main(arguments: list[str]) -> None:
    """Compare, and print one line for each load and way to serve."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.access", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=3, help="how often services start anew; 0: in process only")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is asked after a start")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each load")
    parser.add_argument("--loads", nargs="+", choices=LOAD_NAMES, default=list(LOAD_NAMES))
    parser.add_argument("--without-tls", action="store_true", help="compare keys alone")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles")
    parser.add_argument("--in-process", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.in_process:
        what, models, keys, header = chosen.in_process
        given = Path(models), Path(keys), header
        sys.stdout.write(json.dumps(heads(*given) if what == "head" else uvloop.run(bursts(*given))))
        return
    require_wrk()
    write_missing(chosen.work)
    models = chosen.work / "reference"
    with tempfile.TemporaryDirectory() as temporary:
        files = write_files(Path(temporary))
        in_process(models, files)
        if chosen.starts:
            compare(models, files, chosen)


if __name__ == "__main__":
    main(sys.argv[1:])
