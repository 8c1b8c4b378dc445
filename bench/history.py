"""The history file: one JSON line a run, with the machine and the commit, so that runs can be compared."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.rounds import Measured

LIBRARIES = ("fastapi", "numpy", "onnxruntime", "orjson", "uvicorn", "uvloop")
FIGURES = ("requests_per_s", "rows_per_s", "p50_ms", "p99_ms", "server_cpu_us", "foreign_cores", "refused", "broken")

Entry = dict[str, Any]


def machine() -> Entry:
    """Return what decides the speed here: cores, processor, kernel, Python and libraries."""
    text = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    libraries = {name: version(name) for name in LIBRARIES}
    return {"cores": os.cpu_count(), "processor": model, "kernel": platform.release()} | {
        "python": platform.python_version(),
        "libraries": libraries,
    }


def entry(measured: Sequence[Measured], engine: dict[str, float], root: Path) -> Entry:
    """Return one run as a JSON object: medians by contender and load."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git(root, "rev-parse", "--short", "HEAD"),
        "changed": bool(_git(root, "status", "--porcelain", "service")),
        "machine": machine(),
        "engine_rows_per_s": engine,
        "contenders": {mine.contender.name: _figures(mine) for mine in measured},
    }


def _figures(mine: Measured) -> Entry:
    loads = {load: {figure: mine.median(load, figure) for figure in FIGURES} for load in mine.loads}
    return {"loads": loads, "start_s": mine.start_s(), "pss_mb": mine.pss_mb(), "trouble": mine.trouble}


def append(path: Path, run: Entry) -> None:
    """Add one run at the end of the history."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as history:
        history.write(json.dumps(run) + "\n")


def read(path: Path) -> list[Entry]:
    """Return every run, oldest first."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def compare(before: Entry, after: Entry, floor: str) -> list[str]:
    """Return one line a contender and load: its rate relative to `floor`, before and after.

    Relative rates are compared, not rates: another machine or a busier one moves both sides of a ratio.
    """
    lines = [f"{before['commit']} ({before['time']}) -> {after['commit']} ({after['time']}), requests/s over {floor}"]
    for name in after["contenders"]:
        for load in after["contenders"][name]["loads"]:
            old, new = _relative(before, name, load, floor), _relative(after, name, load, floor)
            if name != floor and old and new:
                lines.append(f"  {name:32} {load:10} {old:6.3f} -> {new:6.3f}  {100 * (new / old - 1):+6.1f} %")
    return lines


def _relative(run: Entry, name: str, load: str, floor: str) -> float | None:
    rates = [
        run["contenders"].get(who, {}).get("loads", {}).get(load, {}).get("requests_per_s") for who in (name, floor)
    ]
    return rates[0] / rates[1] if all(rates) else None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
