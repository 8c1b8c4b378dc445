"""What one run of the engine costs, called in several ways: through `Engine`, through onnxruntime, and with bound buffers.

    python -m bench.binding

Bound buffers are bound once for each number of rows and reused; rows are copied into them and outputs out of them, as a
service must that hands outputs on. Bits must be equal. Printed is the CPU time of this thread, the least of many rounds in turns.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.engine import Engine
from bench.loads import WORK
from bench.make_model import write_missing

ROWS = (1, 32)
ROUNDS, BURST_ROWS = 400, 300  # bursts of about so many rows


def bound(engine: Engine, feeds: list[np.ndarray], example: Outputs) -> Callable[[], Outputs]:
    """Return what runs feeds of this shape in buffers that are bound here."""
    session = engine._session  # noqa: SLF001 - what the engine does not offer is measured
    binding, sources = session.io_binding(), [np.zeros_like(feed) for feed in feeds]
    results = {name: np.zeros_like(output) for name, output in example.items()}
    for (name, _, _), array in zip(engine.inputs, sources, strict=True):
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    for name, array in results.items():
        binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run() -> Outputs:
        for source, feed in zip(sources, feeds, strict=True):
            np.copyto(source, feed)
        session.run_with_iobinding(binding)
        return {name: array.copy() for name, array in results.items()}

    return run


def ways(engine: Engine, rows: int) -> dict[str, Callable[[], object]]:
    """Return the ways to run `rows` rows; ends the program where bound buffers give other bits."""
    generator, wanted = np.random.default_rng(0), list(engine.output_names)
    session = engine._session  # noqa: SLF001 - as above
    feeds = [generator.normal(size=(rows, *shape[1:])).astype(dtype) for _, dtype, shape in engine.inputs]
    named = {name: feed for (name, _, _), feed in zip(engine.inputs, feeds, strict=True)}
    outputs = engine.run(feeds)
    run_bound = bound(engine, feeds, outputs)
    if any(array.tobytes() != outputs[name].tobytes() for name, array in run_bound().items()):
        sys.exit(f"{rows} rows have other bits in bound buffers")
    return {
        "Engine.run": lambda: engine.run(feeds),
        "session.run": lambda: session.run(None, named),
        "outputs named": lambda: session.run(wanted, named),
        "inner call": lambda: session._sess.run(wanted, named, None),  # noqa: SLF001 - and what onnxruntime does not
        "bound, with copies": run_bound,
    }


def main(arguments: list[str]) -> None:
    """Print one line for each number of rows and way."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.binding", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the bundles")
    chosen = parser.parse_args(arguments)
    write_missing(chosen.work)
    graph = next((chosen.work / "reference").rglob("model.onnx"))
    engine = Engine(str(graph), names=None)
    for rows in ROWS:
        compared, times = ways(engine, rows), max(3, BURST_ROWS // rows)
        least = dict.fromkeys(compared, math.inf)
        for _ in range(chosen.rounds):
            for name, run in compared.items():
                start_s = time.thread_time()
                for _ in range(times):
                    run()
                least[name] = min(least[name], (time.thread_time() - start_s) / times * 1e6)
        for name, us in least.items():
            print(f"{rows:4} rows  {name:18} {us:6.1f} us", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
