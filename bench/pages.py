"""What open pages cost predictions: load B on a service with ten readers of the page Watch, beside one without.

    python -m bench.pages --rounds 10 --seconds 4

A reader asks what a browser asks with Watch open: the page and its files once, then the counts every two seconds on a
connection that stays open. Browsers themselves would take the processor from the service that is measured. The services run
side by side and take turns; what is compared is the CPU time of the service for one prediction, that of the readers'
questions included. The plain service stands there twice: what the two differ by is noise.
"""

import argparse
import contextlib
import http.client
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from bench.access import compare
from bench.bodies import own
from bench.loads import WORK, require_wrk
from bench.make_model import write_all
from bench.server import HOST
from bench.side_by_side import Variant, served

READERS = 10
POLL_S = 2.0
FILE = re.compile(r'(?:src|href)="\./(assets/[^"]+)"')


@contextlib.contextmanager
def readers(port: int, count: int) -> Iterator[None]:
    """Let `count` readers look at Watch until the block ends."""
    ended = threading.Event()
    threads = [threading.Thread(target=_read, args=(port, ended, place * POLL_S / count)) for place in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _read(port: int, ended: threading.Event, delay_s: float) -> None:
    """Open the page, then ask for the counts until it ends; readers begin one after another."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)

    def get(path: str, accept: str) -> bytes:
        connection.request("GET", path, headers={"accept": accept, "accept-encoding": "gzip"})
        return connection.getresponse().read()

    if ended.wait(delay_s):
        return
    for file in FILE.findall(get("/watch", "text/html").decode()):
        get(f"/{file}", "*/*")
    while not ended.wait(POLL_S):
        get("/metrics", "application/json")
    connection.close()


def main(arguments: list[str]) -> None:
    """Compare, and print one line for each service."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each service is asked")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    parser.add_argument("--readers", type=int, default=READERS, help="open pages")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles")
    chosen = parser.parse_args(arguments)
    require_wrk()
    if not (chosen.work / "peer.onnx").exists():
        write_all(chosen.work)
    models = chosen.work / "reference"
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        body = Path(temporary) / "body"
        body.write_bytes(own(models)["positional_1"].body)
        names = ("plain", "plain again", f"{chosen.readers} readers")
        compared = {name: (Variant(name), *stack.enter_context(served(Variant(name), models))) for name in names}
        stack.enter_context(readers(compared[names[-1]][1], chosen.readers))
        compare("B", compared, body, chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
