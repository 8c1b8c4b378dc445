"""Train real tables with defaults, serve each, and hold 1 000 test rows to their own bits over HTTP.

    python -m bench.tables FOLDER [TABLE …]

FOLDER has <table>.parquet files and a meta.json with each one's target. Printed for each table: metrics and seconds,
the loss beside the better of a linear model and scikit-learn's MLP as measured on the same kind of split, and how
many answers changed between a row alone and the same row in batches of 2, 17 and 1 000.
"""

import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batchproof.training.data.dataset import Dataset
from batchproof.training.fit.progress import Progress
from batchproof.training.pipeline import Trained, train
from batchproof.training.settings import make

TABLES = ("penguins", "bank", "adult", "diamonds", "letter", "flights")
PEERS = {"penguins": 0.0581, "bank": 0.2670, "adult": 0.3086, "diamonds": 563.0, "letter": 0.1876}  # log loss, RMSE
ROWS = 1_000
BATCHES = (2, 17, 1_000)
READY_S = 60.0


def main(arguments: list[str]) -> int:
    """Train, serve and check each table; returns 1 where a bit changed."""
    folder, names = Path(arguments[0]), arguments[1:] or TABLES
    targets = {name: entry["target"] for name, entry in json.loads((folder / "meta.json").read_text()).items()}
    changed = 0
    for name in names:
        with tempfile.TemporaryDirectory() as models:
            settings = make({"target": targets[name], "models": models})
            trained = train(folder / f"{name}.parquet", settings, Progress(quiet=True))
            with served(Path(models)) as port:
                found = answers_that_change(port, test_rows(trained.data))
        print(line(name, trained, found), flush=True)
        changed += sum(found.values())
    return 1 if changed else 0


def line(name: str, trained: Trained, changed: dict[int, int]) -> str:
    """Return one table's line."""
    loss = trained.metrics.get("log_loss", trained.metrics.get("rmse", math.nan))
    peer = PEERS.get(name)
    beside = f"{loss / peer:.3f} times the peer's {peer:g}" if peer else "no peer measured"
    metrics = ", ".join(
        f"{key} {value:.4g}" for key, value in trained.metrics.items() if not key.startswith("constant")
    )
    return f"{name}: {metrics}; {trained.seconds:.1f} s; {beside}; answers changed by batch: {changed}"


def test_rows(data: Dataset) -> list[list[Any]]:
    """Return the first test rows as JSON values in signature order."""
    names = [feature.name for feature in data.signature.inputs]
    kept = data.table.arrow.select(names).take(data.split.test[:ROWS])
    columns = [column.to_pylist() for column in kept.columns]
    return [[None if is_nan(value) else value for value in row] for row in zip(*columns, strict=True)]


def is_nan(value: object) -> bool:
    """Return whether a value is missing as a float has it."""
    return isinstance(value, float) and math.isnan(value)


def answers_that_change(port: int, rows: list[list[Any]]) -> dict[int, int]:
    """Return, for each batch size, how many rows get another answer than alone."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    alone = [prediction for row in rows for prediction in predict(connection, [row])]
    found = {}
    for size in BATCHES:
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        together = [prediction for batch in batches for prediction in predict(connection, batch)]
        found[size] = sum(one != other for one, other in zip(alone, together, strict=True))
    connection.close()
    return found


def predict(connection: http.client.HTTPConnection, rows: list[list[Any]]) -> list[Any]:
    """Return the predictions; their numbers read back to the float32 bits, so equal ones are equal bits."""
    connection.request("POST", "/predict", json.dumps({"rows": rows}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = json.loads(response.read())
    if response.status != 200:
        raise SystemExit(f"the service answered {response.status}: {body}")
    predictions: list[Any] = body["predictions"]
    return predictions


@contextmanager
def served(models: Path) -> Iterator[int]:
    """Serve `models` on a free port, ready when the block starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "batchproof.service", "serve", "--models", str(models), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))
    try:
        wait_until_ready(process, port)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when /health/ready answers 200; SystemExit where the service ends or takes too long."""
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    process.kill()
    raise SystemExit(f"the service did not become ready: {process.communicate()[1].decode(errors='replace')[-2000:]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
