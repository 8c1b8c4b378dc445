"""What open pages cost predictions: load B on a service with ten readers of the page Watch, beside one without.

    python -m bench.pages --rounds 10 --seconds 4

A reader asks what a browser asks with Watch open: the page and its files once, then the counts every two seconds on a
connection that stays open. Browsers themselves would take the processor from the service that is measured. The services run
side by side and take turns; what is compared is the CPU time of the service for one prediction, that of the readers'
questions included. The plain service stands there twice: what the two differ by is noise. Before that, the plain service is
asked for its counts `--questions` times, and nothing else: the CPU time of one such question is printed first.
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

from bench.access import described
from bench.bodies import own
from bench.loads import WORK, require_wrk
from bench.make_model import write_missing
from bench.server import HOST, usage
from bench.side_by_side import Variant, served, take_turns

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


def question_ms(port: int, pid: int, questions: int) -> float:
    """Return the milliseconds of CPU that the service takes for one question for its counts."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)

    def ask(times: int) -> None:
        for _ in range(times):
            connection.request("GET", "/metrics", headers={"accept": "application/json", "accept-encoding": "gzip"})
            connection.getresponse().read()

    ask(1)  # loads what answers it
    before_s = usage([pid]).cpu_s
    ask(questions)
    connection.close()
    return (usage([pid]).cpu_s - before_s) / questions * 1e3


def main(arguments: list[str]) -> None:
    """Compare, and print one line for each service."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each service is asked")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each load")
    parser.add_argument("--readers", type=int, default=READERS, help="open pages")
    parser.add_argument("--questions", type=int, default=500, help="how often the counts are asked for alone")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles")
    chosen = parser.parse_args(arguments)
    require_wrk()
    write_missing(chosen.work)
    models = chosen.work / "reference"
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        body = Path(temporary) / "body"
        body.write_bytes(own(models)["positional_1"].body)
        names = ("plain", "plain again", f"{chosen.readers} readers")
        compared = {name: (Variant(name), *stack.enter_context(served(Variant(name), models))) for name in names}
        _, port, pid = compared[names[0]]
        sys.stdout.write(f"one question for the counts: {question_ms(port, pid, chosen.questions):.2f} ms of CPU\n")
        sys.stdout.flush()
        stack.enter_context(readers(compared[names[-1]][1], chosen.readers))
        turns = take_turns(compared, "B", body, chosen.rounds, chosen.seconds)
        for name, figures in turns.items():
            sys.stdout.write(f"load B  {name:16} {described(figures, turns[names[0]])}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
