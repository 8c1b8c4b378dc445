"""The processes of a run, forked from one that has loaded torch: each runs a function in the environment of its rank."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

LIMIT_S = 300.0  # a run that takes longer hangs


class Ended(NamedTuple):
    """How a process ended."""

    code: int  # negative: the signal that ended it
    said: str  # on standard output and standard error


def run(size: int, function: Callable[..., int | None], *arguments: Any) -> list[Ended]:
    """Run `function(*arguments)` in `size` processes that can find one another; its result is the exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["batchproof.training.pipeline", "tests.training.distributed.loaded"])
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / f"{rank}.txt" for rank in range(size)]
        places = [(rank, size, str(Path(folder) / "store")) for rank in range(size)]
        processes = [
            context.Process(target=_one, args=(*place, str(output), function, arguments))
            for place, output in zip(places, outputs, strict=True)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(LIMIT_S)
            process.kill()
            process.join()
        texts = [output.read_text() if output.exists() else "" for output in outputs]
    return [Ended(process.exitcode or 0, text) for process, text in zip(processes, texts, strict=True)]


def _one(
    rank: int, size: int, store: str, output: str, function: Callable[..., int | None], arguments: Sequence[Any]
) -> None:
    own = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "BATCHPROOF_STORE": store, "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {name: str(value) for name, value in own.items()}
    with Path(output).open("w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        code = function(*arguments) or 0
    sys.exit(code)
