"""Where the processor time of a row goes inside Batchproof, measured in this process without a server.

Reading is from the body's bytes to the graph's inputs, writing from the graph's outputs to the answer's bytes, by the
service's own codecs. The graph's run is split into the network, the same layers alone from their encoded input on, and
what stands in front of it. What a server uses beyond the sum is HTTP, its queue, copies between threads and processes,
and the sampled check of its answers.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batchproof.service.bundle import reader
from batchproof.service.configuration.settings import RUN_ROWS
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.invariance.check import for_bundles
from batchproof.service.protocols.interface import Call, Limits
from batchproof.service.protocols.native.protocol import NativeCodec
from batchproof.service.tables import formats
from batchproof.service.tables.block import Block, Read, Reading
from batchproof.service.tables.codecs import blocks_of, writer_of
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.streaming.answering import BLOCK_ROWS
from batchproof.service.tables.writers.result_columns import Answered
from bench.exact_speed import read
from bench.real_bundles import Run, network, timed

TABLES = {"csv": formats.CSV, "arrow": formats.ARROW_STREAM}
SECONDS = 0.3  # on each part


@dataclass(frozen=True)
class Costs:
    """Microseconds of processor time a row."""

    reading: float
    front: float
    network: float
    writing: float

    @property
    def total(self) -> float:
        """Return the sum of the parts."""
        return self.reading + self.front + self.network + self.writing


def loaded(folder: Path) -> Model:
    """Load a bundle as the service does, on one thread."""
    return model.load(reader.read(folder), EngineOptions("cpu", 1), RUN_ROWS, for_bundles("require"))


def measure(
    served: Model, requests: Mapping[str, tuple[str, bytes]], run_rows: Mapping[str, int], seconds: float = SECONDS
) -> dict[str, Costs]:
    """Return the costs of each request {name: (format_rows, body)}, such as ("csv_1000", b"…").

    `run_rows` says for each name how many rows a run of the graph has: those of several requests, where they wait together.
    """
    weights = read(served.bundle.folder)
    found = {}
    for name, (kind, body) in requests.items():
        rows, joined = int(kind.rpartition("_")[2]), run_rows[name]
        runs = parts(served, kind, body)
        together = [feeds(served, kind, body)] * max(1, joined // rows)
        runs |= {"graph": partial(served.runner.run, together), "network": network(weights, joined)}
        us = timed(runs, rows, seconds)
        front = us["graph"] - us["network"]
        found[name] = Costs(us["reading"] / rows, front / joined, us["network"] / joined, us["writing"] / rows)
    return found


def parts(served: Model, name: str, body: bytes) -> dict[str, Run]:
    """Return what reads a body, and what writes its answer."""
    kind = name.partition("_")[0]
    outputs = served.runner.run([feeds(served, name, body)])[0]
    if kind in TABLES:
        wanted = TABLES[kind]
        blocks = _read(served, kind, body)
        return {
            "reading": partial(_read, served, kind, body),
            "writing": partial(_write, served, wanted, blocks, outputs),
        }
    codec, call = NativeCodec(served, Limits()), Call(body, [], "0" * 32)
    decoded = codec.decode(call)
    return {"reading": partial(codec.decode, call), "writing": partial(codec.encode, call, decoded, outputs)}


def feeds(served: Model, name: str, body: bytes) -> Arrays:
    """Return the graph's inputs that a body is read to."""
    kind = name.partition("_")[0]
    if kind in TABLES:
        ((_, read_block),) = _read(served, kind, body)
        return read_block.arrays
    return NativeCodec(served, Limits()).decode(Call(body, [], "")).arrays


def _read(served: Model, kind: str, body: bytes) -> list[tuple[Block, Read]]:
    reading = Reading(served.encoder, Parameters(), BLOCK_ROWS)
    return [(block, block.read()) for block in blocks_of(io.BytesIO(body), TABLES[kind], reading) if block.rows]


def _write(served: Model, wanted: formats.Format, blocks: Sequence[tuple[Block, Read]], outputs: Outputs) -> bytes:
    writer = writer_of(wanted, served, Parameters())
    ((block, found),) = blocks
    return writer.write(Answered(block, found.kept, outputs, found.problems)) + writer.end()
