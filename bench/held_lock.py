"""A service that notes how long its threads keep the interpreter's lock: for `bench.loop_pause`.

A thread that wakes every millisecond takes the lock each time. Where it gets the lock late, another thread kept it, or the
machine was busy: the processor time that all threads used meanwhile, but for those that run the engine (which do so
without the lock), tells one from the other. So the figure is nearly the same on a busy machine.
"""

import os
import runpy
import sys
import threading
import time
from pathlib import Path

OUTPUT = "BENCH_HELD_LOCK"  # environment variable: the folder for a file of each process, a line for each time
PAUSE_S = 0.001
LEAST_S = 0.003
ENGINE = "run"  # begins the names of threads that run the engine


def watch(folder: Path) -> None:
    """Write down each time that the lock was kept for longer than LEAST_S, in milliseconds."""
    with (folder / str(os.getpid())).open("a", buffering=1) as output:
        last_s, used_s = time.perf_counter(), _used_s()
        while True:
            time.sleep(PAUSE_S)
            now_s, now_used_s = time.perf_counter(), _used_s()
            held_s = min(now_s - last_s, now_used_s - used_s)
            if held_s > LEAST_S:
                output.write(f"{1e3 * held_s:.1f}\n")
            last_s, used_s = time.perf_counter(), _used_s()


def _used_s() -> float:
    """Return the processor time of all threads but those that run the engine, and this one."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    used_s = 0.0
    for thread in others:
        if thread.ident is not None and not thread.name.startswith(ENGINE):
            try:
                used_s += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            except OSError:  # it has just ended
                continue
    return used_s


def start() -> None:
    """Watch this process."""
    threading.Thread(target=watch, args=(Path(os.environ[OUTPUT]),), daemon=True).start()


if __name__ == "__main__":
    start()
    os.register_at_fork(after_in_child=start)  # in workers: no thread of the supervisor's lives on in them
    sys.argv[0] = "batchproof"
    runpy.run_module("batchproof.service", run_name="__main__", alter_sys=True)
