"""LightGBM's trees on the rows that a bundle was trained on, behind mosec and behind FastAPI: what a user would build."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from batchproof.service.bundle.signature import Signature
from batchproof.service.features.arrays import Arrays
from bench.bodies import JSON, Request, dump
from bench.contenders import Contender
from bench.peers.catalogue import MOSEC, SERVERS
from bench.real_bundles import side_by_side
from bench.server import Launch
from bench.table_bodies import Rows, named

SERVERS_OF_TREES = ("mosec", "fastapi")


def columns(signature: Signature) -> list[dict[str, Any]]:
    """Return the features in their order, each with its place in what the trees get: numbers first, then codes."""
    kinds = [feature.kind == "categorical" for feature in signature.inputs]
    numbers, codes = iter(range(kinds.count(False))), iter(range(kinds.count(False), len(kinds)))
    return [
        {
            "name": feature.name,
            "kind": feature.kind,
            "value_type": feature.value_type,
            "categories": feature.categories,
            "place": next(codes if is_code else numbers),
        }
        for feature, is_code in zip(signature.inputs, kinds, strict=True)
    ]


def grow(
    programs: Path,
    folder: Path,
    signature: Signature,
    read: Callable[[], tuple[Arrays, np.ndarray]],
    asked: Arrays,
    counts: Sequence[int],
) -> None:
    """Grow the trees that `folder` has not yet, in the environment of a server; raises CalledProcessError.

    `read` gives the rows to grow on and their targets; `asked` are the rows that the booster answers for the checks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = columns(signature)
    missing = [count for count in counts if not (folder / f"answers_{count}.npy").exists()]
    if missing:
        rows, wanted = read()
        places = {column["place"]: column["kind"] == "categorical" for column in described}
        categorical = [places[place] for place in sorted(places)]
        np.savez(folder / "train.npz", x=side_by_side(rows), y=wanted, categorical=categorical)
        np.save(folder / "asked.npy", side_by_side(asked))
        (folder / "columns.json").write_text(json.dumps(described))
        command = [str(programs / "python"), str(SERVERS / "trees.py"), str(folder), *map(str, missing)]
        subprocess.run(command, check=True)


def contenders(
    environments: dict[str, Path], folder: Path, count: int, workers: int, rows: Rows
) -> Iterator[Contender]:
    """Yield the servers of `count` trees, each with its requests; `rows` are the rows asked about, as JSON values."""
    environment = {
        "PEER_FOREST": str(folder.absolute()),
        "PEER_TREES": str(count),
        "PEER_WORKERS": str(workers),
        "OMP_NUM_THREADS": "1",
    }
    label = f"{workers} worker{'s' if workers > 1 else ''}, {count} trees"
    answers = np.load(folder / f"answers_{count}.npy").reshape(len(rows), -1).astype(np.float32)
    names = [column["name"] for column in json.loads((folder / "columns.json").read_text())]
    if "mosec" in environments:
        limits = ("--timeout", "30000", "--max-body-size", str(20 << 20))
        command = (str(environments["mosec"] / "python"), str(SERVERS / "trees_mosec.py"), *MOSEC, *limits)
        yield Contender(
            f"mosec, {label}", workers, Launch(command, environment, SERVERS), _requests(names, rows, answers)
        )
    if "fastapi" in environments:
        address = ("--host", "127.0.0.1", "--port", "{port}", "--workers", str(workers))
        quiet = ("--no-access-log", "--log-level", "warning")
        command = (str(environments["fastapi"] / "python"), "-m", "uvicorn", "trees_fastapi:app", *address, *quiet)
        requests = _requests(names, rows, answers)
        by_name = {load: request for load, request in requests.items() if load.endswith("-named")}
        yield Contender(f"FastAPI, {label}", workers, Launch(command, environment, SERVERS), by_name)


def _requests(names: Sequence[str], rows: Rows, answers: np.ndarray) -> dict[str, Request]:
    found = {}
    for load, size in (("A", 1), ("B", 1), ("C", 100), ("D", 1000)):
        part, expected = rows[:size], answers[:size]
        found[f"{load}-named"] = Request("/predict", JSON, named(names, part), expected, _parse)
        found[load] = Request("/predict", JSON, dump({"rows": part}), expected, _parse)
    return found


def _parse(content: bytes, _headers: dict[str, str]) -> np.ndarray:
    predictions = np.array(json.loads(content)["predictions"], dtype=np.float32)
    return predictions.reshape(len(predictions), -1)
