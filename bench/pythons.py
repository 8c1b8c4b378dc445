"""The service under several interpreters, in turns: `python -m bench.pythons PYTHON…`.

Each PYTHON is the interpreter of an environment that can run this checkout's service, such as one that
`make matrix PYTHON=python3.13` left in `.venv-matrix/`. Bare uvicorn, under the interpreter of this program, is the floor.
"""

import argparse
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import report, rounds
from bench.bodies import own
from bench.contenders import FLOOR, ROOT, Contender, batchproof, floor
from bench.loads import LOADS, REAL_TABLES_ONLY, WORK, require_wrk
from bench.make_model import write_missing
from bench.server import Launch

VERSIONS = """
import platform, importlib.metadata as m
print(platform.python_version(), *(f"{name} {m.version(name)}" for name in ("uvloop", "httptools", "numpy")), sep=", ")
"""


def main() -> None:
    """Measure and print a line for each interpreter."""
    parser = argparse.ArgumentParser(prog="python -m bench.pythons", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("python", nargs="+", type=Path, help="interpreters of environments with the service's packages")
    parser.add_argument("--loads", nargs="+", default=["A", "B", "D"], choices=sorted(LOADS.keys() - REAL_TABLES_ONLY))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each load")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every interpreter; medians are printed")
    parser.add_argument("--work", type=Path, default=WORK)
    chosen = parser.parse_args()
    require_wrk()
    write_missing(chosen.work)
    requests = own(chosen.work / "reference")
    service = batchproof(requests, chosen.work / "reference", chosen.workers)
    contenders = [floor(requests), *(_under(python, service) for python in chosen.python)]
    plan = rounds.Plan(tuple(chosen.loads), (), chosen.seconds, chosen.rounds)
    measured = rounds.run(contenders, plan, chosen.work / "logs", lambda line: print(line, flush=True))
    print(report.table(measured, FLOOR), *report.trouble(measured), sep="\n")


def _under(python: Path, service: Contender) -> Contender:
    """Return the service under another interpreter, whose bytecode is made first."""
    assert isinstance(service.launch, Launch)
    _printed([str(python), "-m", "compileall", "-q", str(ROOT / "service")])
    name = _printed([str(python), "-c", VERSIONS]).strip()
    command = (str(python.absolute()), *service.launch.command[1:])
    return replace(service, name=f"Python {name}", launch=replace(service.launch, command=command))


def _printed(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
