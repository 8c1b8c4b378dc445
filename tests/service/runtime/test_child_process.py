"""Work in a child process: its result, its bounds, and its end with a sentence."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from batchproof.service.runtime import child_process
from batchproof.service.runtime.child_process import Bounds, ChildError

SMALL = Bounds(memory_bytes=200 << 20, seconds=1.0)


@pytest.fixture(params=["forked", "spawned"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def greeting(name: str) -> str:
    sys.stdout.write("printed by the child\n")
    return f"hello {name}, from {os.getpid()}"


def long_text(size: int) -> str:
    return "é" * size


def hoard(mebibytes: int) -> str:
    return str(np.ones(mebibytes << 17).sum())  # 8 bytes each


def hoard_slowly(mebibytes: int) -> str:
    kept = []
    for _ in range(mebibytes):
        kept.append(np.ones(1 << 17))
        time.sleep(0.001)
    return str(len(kept))


def own_mebibytes() -> int:
    """Return what this process has, which a child may have too: in a long test run, more than a gigabyte."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def sleep_for_ever() -> str:
    while True:
        time.sleep(1)


def die(number: int) -> str:
    os.kill(os.getpid(), number)
    return ""


def die_quietly(number: int) -> int:
    return len(die(number))


def fail() -> str:
    raise RuntimeError("a fault of ours")


def test_result_comes_back(way: str) -> None:
    """The text that the work returns is the result, and another process made it."""
    text = child_process.run(greeting, "Ærø", bounds=Bounds(), spawn=way == "spawned")
    assert text.startswith("hello Ærø, from ")
    assert int(text.split()[-1]) != os.getpid()


def test_long_result_comes_back_whole(way: str) -> None:
    """A result larger than a pipe holds is not cut."""
    assert child_process.run(long_text, 300_000, bounds=Bounds(), spawn=way == "spawned") == "é" * 300_000


def test_endless_result_is_refused(way: str) -> None:
    """A child that sends more than any result holds is ended."""
    with pytest.raises(ChildError, match="sent a result that is too long"):
        child_process.run(long_text, 50_000_000, bounds=Bounds(), spawn=way == "spawned")


@pytest.mark.parametrize("count", ["the system's", "the parent's"])
@pytest.mark.parametrize("work", [hoard, hoard_slowly])
def test_memory_is_bounded(way: str, count: str, work: child_process.Work) -> None:
    """A child that takes more memory than allowed is ended, by the system's count or by the parent's."""
    bounds = Bounds(200 << 20, 120.0, is_strict=count == "the system's")
    with pytest.raises(ChildError, match="took more than 200 MiB of memory") as caught:
        child_process.run(work, own_mebibytes() + 1300, bounds=bounds, spawn=way == "spawned")
    assert caught.value.kind == "memory"


def test_time_is_bounded(way: str) -> None:
    """A child that does not end within its time is ended."""
    started_s = time.monotonic()
    with pytest.raises(ChildError, match="took more than 1 s") as caught:
        child_process.run(sleep_for_ever, bounds=SMALL, spawn=way == "spawned")
    assert caught.value.kind == "time"
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize("number", [signal.SIGFPE, signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_death_by_signal_is_named(way: str, number: signal.Signals) -> None:
    """A child that is killed by a signal is one error that names the signal."""
    with pytest.raises(ChildError, match=rf"ended the process \({number.name}\)"):
        child_process.run(die, int(number), bounds=Bounds(), spawn=way == "spawned")


def test_exception_is_not_a_result(way: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An exception that the work did not foresee ends the child with a traceback, and is an error here."""
    with pytest.raises(ChildError, match="ended the process with exit code 1"):
        child_process.run(fail, bounds=Bounds(), spawn=way == "spawned")
    assert "a fault of ours" in capfd.readouterr().err


def say(status: int, text: str) -> int:
    sys.stdout.write("found\n")
    sys.stderr.write(text)
    return status


@pytest.mark.parametrize("status", [0, 1, 2])
def test_command_prints_here(capsys: pytest.CaptureFixture[str], status: int) -> None:
    """What the work of a command prints is printed by this process, its status is the command's, nothing moves a cursor."""
    text = "one \x1b[2J\x9b and \u202etwo\nthree\n" + "x" * 9000
    assert child_process.command(say, status, text, bounds=Bounds(), name="prog", advice={}) == status
    printed = capsys.readouterr()
    assert printed.out == "found\n"
    assert printed.err.splitlines()[:2] == ["one \\x1b[2J\\x9b and \\u202etwo", "three"]
    assert len(printed.err) < 2100


def test_command_without_a_result_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """A command whose work ends its process gives exit status 2 and one sentence."""
    status = child_process.command(
        die_quietly, int(signal.SIGFPE), bounds=Bounds(), name="prog", advice={"crash": "; try less"}
    )
    assert status == 2
    assert capsys.readouterr().err == "prog: it ended the process (SIGFPE); try less\n"


@pytest.fixture
def second_thread() -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


def test_process_with_threads_does_not_fork(second_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this process has more than one thread, a new interpreter is started."""
    monkeypatch.delattr(os, "fork")
    assert child_process.run(greeting, "you", bounds=Bounds()).startswith("hello you")


@pytest.mark.parametrize("refused", ["folder", "pipe", "process"])
def test_where_the_system_has_no_room_a_sentence_says_so(
    way: str, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the system refuses, a folder, a pipe or a process, there is no result and a clause with the system's reason."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    spawn = None if refused == "folder" else way == "spawned"
    if refused == "folder":
        monkeypatch.setattr(os, "listdir", refuse)
    elif refused == "pipe":
        monkeypatch.setattr(os, "pipe", refuse)
    else:
        monkeypatch.setattr(os, "fork", refuse)
        monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(ChildError, match=r"^could not begin: no process can be started \(Too many open files\)$"):
        child_process.run(greeting, "Ada", bounds=SMALL, spawn=spawn)


def test_no_child_is_left(way: str) -> None:
    """Each child was waited for: no zombie and no open descriptor stays behind."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for work in (sleep_for_ever, fail):
        with pytest.raises(ChildError):
            child_process.run(work, bounds=Bounds(seconds=0.3), spawn=way == "spawned")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    states = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in children]
    assert "Z" not in states


def test_child_ends_with_its_parent() -> None:
    """A child whose parent is killed does not go on."""
    pid = os.fork()
    if not pid:
        child_process.run(sleep_for_ever, bounds=Bounds(seconds=60), spawn=False)
    deadline_s = time.monotonic() + 10
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    time.sleep(0.3)  # until it has bound its life to its parent's
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while Path(f"/proc/{found[0]}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not Path(f"/proc/{found[0]}").exists()
