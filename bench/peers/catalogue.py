"""The peers in the configuration that measured best on a two-core machine, each with its own request format.

Rows come positional, as `{"inputs": [[…]…]}`, or through the Open Inference Protocol for MLServer; binary rows are
float32 bytes. None of them checks names, ranges or finiteness: these are the shortest paths their documentation shows.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import bodies
from bench.bodies import Request, expected
from bench.contenders import Contender
from bench.make_model import CLASSES, REFERENCE, rows_of
from bench.server import Launch

SERVERS = Path(__file__).resolve().parent / "servers"
BYTES = {"Content-Type": "application/octet-stream"}
MOSEC = ("--address", "127.0.0.1", "--port", "{port}", "--log-level", "warning", "--capacity", "4096")
ROWS = {"A": 1, "B": 1, "C": 100, "D": 1000}


def mosec(programs: Path, work: Path, workers: int, batch: int) -> Contender:
    """Return mosec; a batch above 1 makes it wait 1 ms for more requests."""
    limits = ("--timeout", "10000", "--max-body-size", str(20 << 20))
    command = (str(programs / "python"), str(SERVERS / "mosec_server.py"), *MOSEC, *limits)
    environment = _environment(work, workers) | {"PEER_BATCH": str(batch)}
    label = f", batches of {batch}" if batch > 1 else ""
    name = f"mosec, {workers} worker{'s' if workers > 1 else ''}{label}"
    return Contender(name, workers, Launch(command, environment, work), _plain(work, "/raw"))


def mlserver(programs: Path, work: Path) -> Contender:
    """Return MLServer with the model in its HTTP process, which is its fastest for small requests; no binary route."""
    folder = (work / "mlserver").absolute()
    folder.mkdir(exist_ok=True)
    (folder / "mlserver_model.py").write_text((SERVERS / "mlserver_model.py").read_text())
    (folder / "settings.json").write_text(json.dumps({"debug": False, "host": "127.0.0.1", "parallel_workers": 0}))
    model = {"name": "reference", "implementation": "mlserver_model.Network"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    ports = {f"MLSERVER_{name}_PORT": value for name, value in (("HTTP", "{port}"), ("GRPC", "0"), ("METRICS", "0"))}
    launch = Launch((str(programs / "mlserver"), "start", "."), _environment(work, 1) | ports, folder)
    requests = {load: bodies.oip(rows, binary=False, models=work / "reference") for load, rows in ROWS.items()}
    return Contender("MLServer, 1 process", 1, launch, requests)


def ray(programs: Path, work: Path) -> Contender:
    """Return Ray Serve with two replicas behind HAProxy, 20 times as fast as its default proxy."""
    proxy = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_HAPROXY_NBTHREAD": "1"}
    environment = _environment(work, 2) | proxy | {"RAY_USAGE_STATS_ENABLED": "0"}
    launch = Launch((str(programs / "python"), str(SERVERS / "ray_server.py")), environment, work)
    return Contender("Ray Serve, 2 replicas, HAProxy", 2, launch, _plain(work, "/predict"))


def bentoml(programs: Path, work: Path) -> Contender:
    """Return BentoML with two workers."""
    home = {"BENTOML_HOME": str((work / "bentoml").absolute()), "BENTOML_DO_NOT_TRACK": "True"}
    serve = ("serve", "bentoml_server:Network", "--host", "127.0.0.1", "--port", "{port}")
    launch = Launch((str(programs / "bentoml"), *serve), _environment(work, 2) | home, SERVERS)
    return Contender("BentoML, 2 workers", 2, launch, _plain(work, "/bytes/raw"))


def litserve(programs: Path, work: Path) -> Contender:
    """Return LitServe with two HTTP and two inference processes; no binary route."""
    launch = Launch((str(programs / "python"), str(SERVERS / "litserve_server.py")), _environment(work, 2), work)
    requests = {load: request for load, request in _plain(work, "").items() if load != "E"}
    return Contender("LitServe, 2 workers", 2, launch, requests)


PEERS: Mapping[str, Callable[[Path, Path], list[Contender]]] = {
    "mosec": lambda programs, work: [mosec(programs, work, 2, 1), mosec(programs, work, 1, 32)],
    "ray": lambda programs, work: [ray(programs, work)],
    "mlserver": lambda programs, work: [mlserver(programs, work)],
    "bentoml": lambda programs, work: [bentoml(programs, work)],
    "litserve": lambda programs, work: [litserve(programs, work)],
}


def _environment(work: Path, workers: int) -> dict[str, str]:
    model = str((work / "peer.onnx").absolute())
    return {"PEER_MODEL": model, "PEER_WORKERS": str(workers), "PEER_PORT": "{port}", "OMP_NUM_THREADS": "1"}


def _plain(work: Path, raw: str) -> dict[str, Request]:
    """Return `{"inputs": rows}` for A to D at /predict, and float32 bytes for E at `raw`."""
    values = {rows: rows_of(REFERENCE, rows, rows) for rows in bodies.SIZES}
    answers = {rows: expected(REFERENCE, values[rows], work / "reference") for rows in bodies.SIZES}
    found = {
        load: Request("/predict", bodies.JSON, bodies.dump({"inputs": values[rows]}), answers[rows], _parse)
        for load, rows in ROWS.items()
    }
    content = np.array(values[1000], dtype=np.float32).tobytes()
    return found | {"E": replace(found["D"], path=raw, headers=BYTES, body=content, parse=_parse_bytes)}


def _parse(content: bytes, _headers: dict[str, str]) -> Any:
    """Read {"outputs": rows}, or the bare list of rows that BentoML answers."""
    answer = json.loads(content)
    return answer["outputs"] if isinstance(answer, dict) else answer


def _parse_bytes(content: bytes, _headers: dict[str, str]) -> Any:
    return np.frombuffer(content, dtype=np.float32).reshape(-1, len(CLASSES))
