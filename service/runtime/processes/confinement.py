"""What a process that works on a stranger's bytes may take."""

import contextlib
import math
import os
import resource
import signal
import time
from pathlib import Path

from batchproof.service.runtime import child_process

NICE = 5  # behind the service itself, which answers callers of one row meanwhile: a third of its weight


def confine(memory_bytes: int) -> None:
    """Bind this process's life to its parent's and its memory to so many bytes more than it has; leave no core file.

    Where memory ends for all, it is the first to go.
    """
    child_process.die_with_parent()
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = child_process.private_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard < 0 else min(allowed, hard), hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def allow_cpu(seconds: int) -> None:
    """Let this process be ended (SIGXCPU) once it has used so much processor time more."""
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = math.ceil(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (allowed if hard < 0 else min(allowed, hard), hard))
