"""Frames come whole or not at all, whatever the other side does."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from batchproof.service.runtime.processes.frames import HEAD, Frames, PeerEndedError, send

BIG = bytes(range(256)) * 20_000  # more than a socket holds


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two connected sockets."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("timeout_s", [None, 10.0])
def test_a_frame_comes_as_it_was_sent(ends: tuple[socket.socket, socket.socket], timeout_s: float | None) -> None:
    """Its parts are joined, also where it is longer than a socket holds, by a side that may wait and by one that may not."""
    ours, theirs = ends
    ours.settimeout(timeout_s)
    sender = threading.Thread(target=send, args=(theirs, b"A", BIG[:1000], BIG[1000:]))
    sender.start()
    assert Frames(ours, len(BIG)).receive() == (b"A", BIG)
    sender.join()
    send(theirs, b"B", b"")
    assert Frames(ours, len(BIG)).receive() == (b"B", b"")


def test_a_frame_fills_a_buffer(ends: tuple[socket.socket, socket.socket]) -> None:
    """Numbers are received where they are needed, without a copy."""
    ours, theirs = ends
    sender = threading.Thread(target=send, args=(theirs, b"A", BIG))
    sender.start()
    buffer = bytearray(len(BIG))
    Frames(ours, 0).fill(b"A", memoryview(buffer))
    sender.join()
    assert buffer == BIG


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(HEAD.pack(b"A", 9) + b"12345678", id="cut off"),
        pytest.param(HEAD.pack(b"A", 9)[:3], id="cut off within its head"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_frame_that_ends_early_is_the_peers_end(ends: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    """A side that goes away within a frame has said nothing."""
    ours, theirs = ends
    theirs.sendall(sent)
    theirs.close()
    with pytest.raises(PeerEndedError):
        Frames(ours, 100).receive()


def test_a_buffer_takes_no_other_frame(ends: tuple[socket.socket, socket.socket]) -> None:
    """A frame of another kind or length than was announced does not get into an array."""
    ours, theirs = ends
    for kind, payload in ((b"A", b"123"), (b"B", b"1234")):
        send(theirs, kind, payload)
        with pytest.raises(PeerEndedError):
            Frames(ours, 100).fill(b"A", memoryview(bytearray(4)))
        ours.recv(100)
    theirs.sendall(HEAD.pack(b"A", 4) + b"12")
    theirs.close()
    with pytest.raises(PeerEndedError):
        Frames(ours, 100).fill(b"A", memoryview(bytearray(4)))


def test_a_frame_has_a_most_length(ends: tuple[socket.socket, socket.socket]) -> None:
    """A length beyond the limit is refused before memory is taken for it."""
    ours, theirs = ends
    theirs.sendall(HEAD.pack(b"A", 1 << 60))
    with pytest.raises(PeerEndedError):
        Frames(ours, 100).receive()


def test_silence_is_an_end(ends: tuple[socket.socket, socket.socket]) -> None:
    """A side that neither sends nor reads is given up, and the one that waits is asked meanwhile whether it still should."""
    ours, _ = ends
    asked: list[int] = []
    with pytest.raises(PeerEndedError):
        Frames(ours, 100, silent_s=0.3).receive(lambda: asked.append(1))
    assert asked
    ours.settimeout(0.3)
    asked.clear()
    with pytest.raises(PeerEndedError):
        send(ours, b"A", BIG, go_on=lambda: asked.append(1))
    assert asked


def test_whoever_sends_is_asked_whether_it_still_should(ends: tuple[socket.socket, socket.socket]) -> None:
    """A caller that leaves while its body waits to be read ends the sending, long before silence would."""

    def gone() -> None:
        raise KeyError("gone")

    ours, _ = ends
    ours.settimeout(600)
    with pytest.raises(KeyError, match="gone"):
        send(ours, b"A", BIG, go_on=gone)


def test_a_slow_reader_is_not_silent(ends: tuple[socket.socket, socket.socket]) -> None:
    """Silence is counted from the last byte that was read: a long frame may take longer than that in all."""
    ours, theirs = ends
    ours.settimeout(1.0)
    received = bytearray()

    def read_slowly() -> None:
        while len(received) < HEAD.size + len(BIG):
            time.sleep(0.05)
            received.extend(theirs.recv(1 << 17))

    reader = threading.Thread(target=read_slowly)
    started_s = time.monotonic()
    reader.start()
    send(ours, b"A", BIG)
    reader.join()
    assert time.monotonic() - started_s > ours.gettimeout()  # type: ignore[operator]  # or this test says nothing
    assert received[HEAD.size :] == BIG
