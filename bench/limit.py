"""The limit: onnxruntime on arrays that are ready, behind the same load generator, with nothing else that a server does.

    python -m bench.limit MODEL PORT PROCESSES [read]

Each process waits for whole requests, runs the rows that they stand for, and sends an answer of the real length that was
made before. Nothing is parsed but the length, nothing validated, encoded or formatted. With `read`, JSON of several rows is
read, with the service's own reader, and those rows run: so much of what the service takes for them is no choice. The bare loops of
bench/engine_loop.py have both cores to themselves; these share them with the generator, as a server must. Connections
are dealt out in turns, so that no process has more of them than another; requests of one row that wait together share a run.
"""

import contextlib
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

from batchproof.service.bundle import reader
from batchproof.service.protocols.json_text.fast_rows import FastRows
from bench.constant import ANSWERS
from bench.make_model import REFERENCE, arrays_of, rows_of
from bench.server import HOST

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ROWS = (1, 100, 1000, 1000)  # that a body stands for, by its length: one for each of ANSWERS
RUN_ROWS = 512  # most rows of a run, as the service has it by default

Answer = tuple[int, bytes]  # rows, and the whole response
Run = Callable[[int, bytes], None]  # so many rows, or those of a body


def answer_of(length: int) -> Answer:
    """Return the rows that a body of so many bytes stands for, and the response to it."""
    rows, (_, (body, headers)) = next(
        (rows, answer) for rows, answer in zip(ROWS, ANSWERS, strict=True) if length < answer[0]
    )
    head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return rows, b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body


class Peer:
    """One connection: the bytes of a request that is not whole yet."""

    def __init__(self, connection: socket.socket) -> None:
        """Hold an accepted connection."""
        self.connection = connection
        self._parts: list[bytes] = []
        self._missing = 0  # bytes of the request that are not there yet; 0: its head is not there
        self._length = 0
        self._body: list[bytes] = []

    def take_body(self) -> bytes:
        """Return the body of the whole request, once."""
        body, self._body = b"".join(self._body), []
        return body

    def read(self) -> int | None:
        """Take what came: the length of the body once a request is whole, None before; raises ConnectionError at the end."""
        part = self.connection.recv(1 << 20)
        if not part:
            raise ConnectionError
        if self._missing:
            self._missing -= len(part)
            self._body.append(part)
        else:
            self._parts.append(part)
            joined = b"".join(self._parts)
            end = joined.find(b"\r\n\r\n")
            if end < 0:
                return None
            found = LENGTH.search(joined, 0, end)
            self._length = int(found[1]) if found else 0
            self._missing = end + 4 + self._length - len(joined)
            self._body = [joined[end + 4 :]]
        if self._missing:
            return None
        self._parts = []
        return self._length

    def write(self, content: bytes) -> None:
        """Send an answer; a caller that went away is noticed by the next `read`."""
        with contextlib.suppress(ConnectionError):
            self.connection.sendall(content)


def work(model: Path, inlet: socket.socket, *, reads: bool = False) -> None:
    """Answer the connections that come through `inlet` until it is closed."""
    run = runner(model, reads=reads)
    epoll, peers = select.epoll(), dict[int, Peer]()
    epoll.register(inlet, select.EPOLLIN)
    while True:
        waiting: list[tuple[Peer, Answer]] = []
        for number, _ in epoll.poll():
            if number == inlet.fileno():
                _, given, _, _ = socket.recv_fds(inlet, 1, 1)
                if not given:
                    for peer in peers.values():
                        peer.connection.close()
                    epoll.close()
                    return
                peers[given[0]] = Peer(socket.socket(fileno=given[0]))
                epoll.register(given[0], select.EPOLLIN)
                continue
            try:
                length = peers[number].read()
            except ConnectionError:
                epoll.unregister(number)  # closing is not enough while the parent has not closed its copy
                peers.pop(number).connection.close()
                continue
            if length is not None:
                waiting.append((peers[number], answer_of(length)))
        reply(waiting, run)


def reply(waiting: list[tuple[Peer, Answer]], run: Run) -> None:
    """Run the rows of all that wait, those of one row together, and answer each as soon as its rows have run."""
    singles = [(peer, answer) for peer, answer in waiting if answer[0] == 1]
    if singles:
        run(len(singles), b"")
        for peer, (_, content) in singles:
            peer.write(content)
    for peer, (rows, content) in waiting:
        if rows > 1:
            run(rows, peer.take_body())
            peer.write(content)


def runner(model: Path, *, reads: bool) -> Run:
    """Return what runs so many rows of the reference model, on one thread and at most RUN_ROWS at a time.

    Where it `reads`, these are the rows of a body of JSON, and other bodies stand for rows that are ready.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    whole = arrays_of(REFERENCE, rows_of(REFERENCE, RUN_ROWS, seed=1))
    decode = FastRows(reader.read(model.parent).manifest.signature).decode if reads else lambda _: None

    def run(rows: int, body: bytes) -> None:
        arrays = decode(body)
        for start in range(0, rows, RUN_ROWS):
            if arrays is None or arrays.numeric is None:
                part = min(RUN_ROWS, rows - start)
                feeds = {name: array[:part] for name, array in whole.items()}
            else:
                feeds = {"numeric": arrays.numeric[start : start + RUN_ROWS]}
            session.run(["probabilities"], feeds)

    return run


def main(model: Path, port: int, processes: int, *, reads: bool) -> None:
    """Fork the loops, then deal connections out to them until the process is ended."""
    inlets = []
    for _ in range(processes):
        ours, theirs = socket.socketpair()
        if not os.fork():
            for inlet in [*inlets, ours]:
                inlet.close()
            work(model, theirs, reads=reads)
            os._exit(0)
        theirs.close()
        inlets.append(ours)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the loops end with their inlets
    with socket.create_server((HOST, port), backlog=256) as listener:
        turn = 0
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socket.send_fds(inlets[turn % processes], [b"c"], [connection.fileno()])
            connection.close()
            turn += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), reads=sys.argv[4:] == ["read"])
