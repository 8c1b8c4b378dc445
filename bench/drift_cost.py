"""What finding drift costs a one-row request, in process: `python -m bench.drift_cost`.

Two services of one model, one of which counts drift, answer the same bodies in turns of 200; the best turn of each counts,
since others are disturbed. Then `offer` alone, for rows that are counted and for rows that are passed over.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson

from batchproof.service.configuration.settings import Settings
from batchproof.service.drift.collector import DriftCollector
from batchproof.service.drift.model_drift import ModelDrift
from batchproof.service.features.arrays import Arrays
from batchproof.service.protocols.head import RequestHead
from batchproof.service.protocols.interface import Answer
from batchproof.service.server.serving import app as apps
from batchproof.service.server.serving.endpoint import PredictEndpoint
from tests.bundles import make_bundle

TURN, TURNS = 200, 50
OFFERS = 200


def main() -> None:
    """Print microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        make_bundle(Path(folder), reference_rows=5000)
        services = []
        for share in (0.0, 1.0):
            settings = Settings(models=Path(folder), drift_share=share)
            services.append(apps.load(settings, apps.take_snapshot(settings)))
        off, on = asyncio.run(turns(services))
        print(f"one-row request in process: {off:.2f} us without, {on:.2f} us with drift ({on - off:+.2f})")
        counted, passed = offers(services[1])
        print(f"offer alone: {counted:.2f} us where the row is counted, {passed:.2f} us where it is passed over")
        for service in services:
            service.close()


async def turns(services: list[apps.App]) -> list[float]:
    """Return the microseconds of a request of each service, in its best turn."""
    best = [float("inf")] * len(services)
    endpoints = [service.routes.endpoints["/predict"] for service in services]
    for _ in range(TURNS):
        for place, endpoint in enumerate(endpoints):
            best[place] = min(best[place], await turn(endpoint))
    return best


async def turn(endpoint: PredictEndpoint) -> float:
    """Return the microseconds of a request, over one turn."""
    body = orjson.dumps({"rows": [[40.0, "Oslo", 3, None, True, 1, None]]})
    loop = asyncio.get_running_loop()
    answers: list[Answer] = []
    start_s = time.perf_counter()
    for _ in range(TURN):
        done = loop.create_future()

        def reply(answer: Answer, done: "asyncio.Future[None]" = done) -> None:
            answers.append(answer)
            done.set_result(None)

        endpoint.handle(body, RequestHead("POST", "/predict", b"", ()), reply)
        await done
    seconds = time.perf_counter() - start_s
    assert {answer.status for answer in answers} == {200}
    return seconds / TURN * 1e6


def offers(service: apps.App) -> list[float]:
    """Return the microseconds of one call of `offer`, with and without room for the row."""
    model = service.registry.newest("flowers")
    best = [float("inf"), float("inf")]
    for _ in range(TURNS):
        collector = DriftCollector(1.0, (3600.0,))
        drift = collector.of(model.manifest, model.bundle.reference)
        assert drift is not None, "the bundle has statistics"
        for place, prepare in enumerate((None, fill)):
            if prepare:
                prepare(drift)
            best[place] = min(best[place], timed(drift))
        collector.close()
    return best


def fill(drift: ModelDrift) -> None:
    """Leave no room."""
    for _ in range(2000):
        drift.offer(ROW, OUTPUT, 1)


def timed(drift: ModelDrift) -> float:
    """Return the microseconds of one call."""
    start_s = time.perf_counter()
    for _ in range(OFFERS):
        drift.offer(ROW, OUTPUT, 1)
    return (time.perf_counter() - start_s) / OFFERS * 1e6


ROW = Arrays(np.ones((1, 4)), np.zeros((1, 3), np.int64))
OUTPUT = {"probabilities": np.full((1, 3), 1 / 3, np.float32)}

if __name__ == "__main__":
    main()
