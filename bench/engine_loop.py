"""The ceiling: onnxruntime alone, one thread a process, fed the same arrays over and over.

    python -m bench.engine_loop build/bench/reference/reference/1/model.onnx 100 3

prints the rows a second at 100 rows a run over 3 s.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from bench.make_model import REFERENCE, arrays_of, rows_of


def rows_per_s(model: Path, rows: int, processes: int, seconds: float) -> float:
    """Run `processes` loops at once, each in its own process, and add up their rows a second."""
    command = [sys.executable, "-m", "bench.engine_loop", str(model), str(rows), str(seconds)]
    loops = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(loop.communicate(timeout=seconds + 60)[0]) for loop in loops)


def loop(model: Path, rows: int, seconds: float) -> float:
    """Return the rows a second of this process; each run takes `rows` rows of the reference model."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    arrays = arrays_of(REFERENCE, rows_of(REFERENCE, rows, seed=rows))
    for _ in range(10):
        session.run(["probabilities"], arrays)
    times, begun = [], time.perf_counter()
    while time.perf_counter() - begun < seconds:
        before = time.perf_counter()
        session.run(["probabilities"], arrays)
        times.append(time.perf_counter() - before)
    return rows / float(np.median(times))


if __name__ == "__main__":
    print(loop(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
