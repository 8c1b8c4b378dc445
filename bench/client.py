"""A pandas frame through the Python client: as native JSON, and as binary tensors of the Open Inference Protocol.

    python -m bench.client [--rows 1 10 100 300 1000 10000] [--rounds 15]

Both go through the client's own code from frame to frame, to one server on this machine, taking turns. Printed are the
medians in milliseconds and how many times as long JSON takes: below 1 it is the faster, and `BINARY_ROWS` in
service/client/codecs/frame_codec.py stands where it no longer is.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from batchproof.service.client import Client
from batchproof.service.client.codecs import frame_codec as framed
from bench.make_model import MIXED, REFERENCE, build, rows_of, write_bundle
from tests.live import live

NEVER = 1 << 30  # rows
PROTOCOLS = {"JSON": NEVER, "binary": 0}


def main() -> None:
    """Measure both shapes of model and print a line for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 10, 100, 300, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    print(f"{'model':10}{'rows':>7}{'JSON ms':>10}{'binary ms':>11}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for shape in (REFERENCE, MIXED):
            write_bundle(shape, Path(folder), build(shape).SerializeToString())
        with live(Path(folder), "--default-model", REFERENCE.name) as server:
            for shape in (REFERENCE, MIXED):
                names = [feature["name"] for feature in shape.features()]
                with Client(server.url, shape.name) as client:
                    for rows in chosen.rows:
                        frame = pd.DataFrame(rows_of(shape, rows, 1), columns=names)
                        found = _medians_ms(client, frame, chosen.rounds)
                        ratio = found["JSON"] / found["binary"]
                        print(
                            f"{shape.name:10}{rows:7}{found['JSON']:10.2f}{found['binary']:11.2f}{ratio:7.2f}",
                            flush=True,
                        )


def _medians_ms(client: Client, frame: Any, rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in PROTOCOLS}
    for turn in range(rounds + 1):
        for name, from_rows in PROTOCOLS.items():
            framed.BINARY_ROWS = from_rows
            begun_s = time.perf_counter()
            client.predict(frame)
            if turn:  # the first one warms up
                taken[name].append(1e3 * (time.perf_counter() - begun_s))
    return {name: statistics.median(values) for name, values in taken.items()}


if __name__ == "__main__":
    main()
