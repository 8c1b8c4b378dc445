"""The closed loops A to E: a fixed number of connections, each sending its next request when the last is answered.

    python -m bench.loads --target http://127.0.0.1:8000 --only B

`wrk` (Debian package `wrk`) sends; it costs about 5 µs of CPU a request and runs on the same machine as the server.
A closed loop slows down with the server, so its p99 is the service's under saturation and says nothing about queueing:
bench/open_loop.py measures that.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.bodies import Request, mixed, own
from bench.make_model import write_missing

SCRIPT = Path(__file__).with_name("post.lua")
WORK = Path("build/bench")


@dataclass(frozen=True)
class Load:
    """How many connections send which request (a key of `bodies.own`)."""

    name: str
    rows: int
    connections: int
    request: str


LOADS = {
    load.name: load
    for load in (
        Load("A", 1, 1, "positional_1"),
        Load("B", 1, 32, "positional_1"),
        Load("C", 100, 8, "positional_100"),
        Load("D", 1000, 4, "positional_1000"),
        Load("E", 1000, 4, "binary_1000"),
        Load("A-named", 1, 1, "named_1"),
        Load("B-named", 1, 32, "named_1"),
        Load("C-named", 100, 8, "named_100"),
        Load("D-named", 1000, 4, "named_1000"),
        Load("B-mixed", 1, 32, "mixed_1"),
        Load("D-mixed", 1000, 4, "mixed_1000"),
        Load("B-oip", 1, 32, "oip_1"),
        Load("D-oip", 1000, 4, "oip_1000"),
        Load("D-csv", 1000, 4, "csv_1000"),
        Load("D-arrow", 1000, 4, "arrow_1000"),
    )
}
REAL_TABLES_ONLY = frozenset({"D-csv", "D-arrow"})  # loads of bench.peers.real


@dataclass(frozen=True)
class Result:
    """What one closed loop gave. Rates count 2xx answers only."""

    requests_per_s: float
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    refused: int  # answers other than 2xx
    broken: int  # connections that failed, and timeouts
    server_cpu_us: float = math.nan  # of the server's process tree, a 2xx answer
    foreign_cores: float = math.nan  # busy with neither the server nor the load: above 0.25, distrust the figures


def read(printed: str, rows: int) -> Result:
    """Read what post.lua printed; raises ValueError where its line is not there."""
    found = re.search(r"^WRK (.*)$", printed, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk printed no result: {printed[-500:]}")
    line = json.loads(found[1])
    rate = (line["requests"] - line["refused"]) / (line["duration_us"] / 1e6)
    latencies = {f"{name}_ms": line[f"{name}_us"] / 1000 for name in ("p50", "p99", "max")}
    return Result(rate, rate * rows, refused=line["refused"], broken=line["broken"], **latencies)


def require_wrk() -> None:
    """End with one sentence where the load generator is not installed."""
    if shutil.which("wrk") is None:
        sys.exit("The load generator wrk is not installed: apt-get install wrk, or https://github.com/wg/wrk.")


def run(load: Load, request: Request, host: str, port: int, seconds: float) -> Result:
    """Check the answer once, then send for `seconds`, after a warm-up of a quarter as long."""
    request.check(host, port)
    with tempfile.NamedTemporaryFile() as body:
        body.write(request.body)
        body.flush()
        _wrk(load, request, body.name, f"http://{host}:{port}", max(1, seconds / 4))
        return read(_wrk(load, request, body.name, f"http://{host}:{port}", seconds), load.rows)


def _wrk(load: Load, request: Request, body: str, target: str, seconds: float) -> str:
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    options = ["-t1", f"-c{load.connections}", f"-d{round(seconds)}s", "--timeout", "30s", "-s", str(SCRIPT)]
    command = ["wrk", *options, target + request.path, "--", body, *headers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    return done.stdout + done.stderr


def describe(load: Load, result: Result) -> str:
    """Return one line for a person."""
    return (
        f"{load.name:8} {load.rows:5} rows on {load.connections:3} connections: "
        f"{result.requests_per_s:9,.0f} requests/s {result.rows_per_s:11,.0f} rows/s   "
        f"p50 {result.p50_ms:7.2f} ms  p99 {result.p99_ms:7.2f} ms  refused {result.refused}  broken {result.broken}"
    )


def main(arguments: list[str]) -> None:
    """Run the chosen loads against a server that serves the benchmark's bundle (see --work)."""
    parser = argparse.ArgumentParser(prog="python -m bench.loads", description=main.__doc__)
    parser.add_argument("--target", default="http://127.0.0.1:8000", help="address of the running service")
    parser.add_argument(
        "--only", nargs="+", default=list("ABCDE"), choices=sorted(LOADS.keys() - REAL_TABLES_ONLY), metavar="LOAD"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles")
    parser.add_argument(
        "--models", type=Path, help="what is served: WORK/reference (default), WORK/mixed or WORK/exact"
    )
    chosen = parser.parse_args(arguments)
    require_wrk()
    chosen.models = chosen.models or chosen.work / "reference"
    write_missing(chosen.work)
    requests, address = own(chosen.models) | mixed(chosen.work / "mixed"), urlsplit(chosen.target)
    for name in chosen.only:
        request = requests[LOADS[name].request]
        result = run(LOADS[name], request, address.hostname or "127.0.0.1", address.port or 80, chosen.seconds)
        print(describe(LOADS[name], result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
