"""Broken bundles, from a good one: `python -m tests.fuzz_bundles --inputs 1000000`.

A bundle is loaded, and then it gives the golden answers, or it is refused with a BundleError or EngineError, within a
second of reading and the limits of a trial. Anything else is a finding: another exception, a death of the process that
loads, a reader that does not end. Mutants are a function of the seed alone, so a finding is found again.
"""

import argparse
import json
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from batchproof.service.bundle import reader
from batchproof.service.bundle.files.checksum import seal
from batchproof.service.bundle.graph import check as graph_check
from batchproof.service.bundle.reader import Bundle
from batchproof.service.bundle.rows import golden
from batchproof.service.errors import BundleError, EngineError
from batchproof.service.inference import model, trial
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.trial import TrialLimits
from batchproof.service.invariance.check import Effort, for_bundles
from batchproof.service.runtime import child_process
from batchproof.service.runtime.child_process import Bounds, ChildError
from tests.bundles import make_bundle, network

READ_S = 1.0
RUN_ROWS = 16
TOGETHER = 40  # mutants that one child loads
LIMITS = TrialLimits(256 << 20, 5.0)
BOUNDS = Bounds(1 << 30, 120.0)
VARINTS = (0, 1, 2, 7, 0x7F, 0x80, 0xFFFF, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64 - 1, 2**64 - 11)
VALUES: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, 1e-320, "", "a", "é" * 50, "\x00\x1b[2J"),
    *(
        [],
        [[]],
        {},
        [0],
        [None],
        {"a": 1},
        "float32",
        "int64",
        "numeric",
        "categorical",
        "date",
        "x" * 2000,
        [0.1] * 50,
    ),
)
Report = Callable[[str, bytes, BaseException], None]


class TooSlowError(Exception):
    """Reading took more than a second of processor time."""


@dataclass(frozen=True)
class Sound:
    """The good bundle that mutants are made from."""

    bundle: Bundle
    manifest: bytes
    golden: bytes

    @property
    def files(self) -> dict[str, bytes]:
        """Return what is broken, by name."""
        return {"model.onnx": self.bundle.model, "bundle.json": self.manifest, "golden.json": self.golden}


def sound(models: Path) -> Sound:
    """Write a small bundle and read it."""
    folder = make_bundle(models, graph=network(hidden=2))
    files = [(folder / name).read_bytes() for name in ("bundle.json", "golden.json")]
    return Sound(reader.read(folder), *files)


def flipped(raw: bytes, bit: int) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def varint(number: int) -> bytes:
    """Write a number as protobuf does."""
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """Change, cut, repeat, extend or exchange bytes, one to three times."""
    for _ in range(draw.randint(1, 3)):
        start = draw.randint(0, len(raw))
        end = min(len(raw), start + draw.choice((0, 1, 1, 2, 8, 60)))
        other = draw.randint(0, len(raw))
        middle = draw.choice(
            (
                *(b"", bytes([draw.randrange(256)]), raw[start:end] * 2, raw[other : other + 40]),
                *(varint(draw.choice(VARINTS)), bytes([draw.randrange(128)]) + varint(draw.choice(VARINTS))),
                *(draw.randbytes(draw.randint(1, 12)), b"\x00" * 8, b"\xff" * 9, b"\x08\x00" * 100),
            )
        )
        raw = raw[:start] + middle + (b"" if draw.random() < 0.03 else raw[end:])
    return raw


def mutated_json(raw: bytes, draw: random.Random) -> bytes:
    """Put another value at one place of the JSON, mostly; else change bytes."""
    if draw.random() < 0.3:
        return mutated(raw, draw)
    content = json.loads(raw)
    parent, key = content, draw.choice(list(content))
    while isinstance(parent[key], dict | list) and parent[key] and draw.random() < 0.85:
        parent = parent[key]
        key = draw.choice(list(parent)) if isinstance(parent, dict) else draw.randrange(len(parent))
    if draw.random() < 0.15:
        del parent[key]
    else:
        parent[key] = draw.choice(VALUES)
    return json.dumps(content, allow_nan=True).encode()


@contextmanager
def timed() -> Iterator[None]:
    """Raise TooSlowError where the block takes more than a second of processor time."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"not read within {READ_S} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, READ_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def read_model(good: Sound, raw: bytes) -> Bundle:
    """Read another model.onnx in the place of the good one; raises BundleError."""
    return replace(good.bundle, model=raw, graph=graph_check.check(raw, good.bundle.manifest))


def read_manifest(good: Sound, raw: bytes) -> Bundle:
    """Read another bundle.json, sealed anew where it is JSON; raises BundleError."""
    try:
        content = json.loads(raw)
        raw = seal(content) if isinstance(content, dict) else raw
    except ValueError:
        pass  # read as it is
    manifest = reader.parse_manifest(raw)
    graph = graph_check.check(good.bundle.model, manifest)
    return replace(good.bundle, manifest=manifest, graph=graph, golden=golden.parse(good.golden, manifest))


def read_golden(good: Sound, raw: bytes) -> Bundle:
    """Read another golden.json; raises BundleError."""
    return replace(good.bundle, golden=golden.parse(raw, good.bundle.manifest))


READERS = {"model.onnx": read_model, "bundle.json": read_manifest, "golden.json": read_golden}


def read(good: Sound, name: str, raw: bytes) -> Bundle | None:
    """Read a mutant; returns None where it is refused, and raises what no reader may raise."""
    with timed():
        try:
            return READERS[name](good, raw)
        except BundleError:
            return None


def load(bundle: Bundle) -> str:
    """Load and verify a bundle as a service does; returns what became of it."""
    how = "at once"
    try:
        how = "after a trial" if trial.reason(bundle, RUN_ROWS, LIMITS) else "at once"
        model.load(bundle, EngineOptions("cpu"), RUN_ROWS, for_bundles("report", Effort(budget_s=0.0)), LIMITS)
    except (BundleError, EngineError):
        return f"refused {how}"
    return f"loaded {how}"


def load_each(bundles: list[Bundle]) -> str:
    """Load each; returns the outcomes as JSON."""
    return json.dumps([load(bundle) for bundle in bundles])


def loaded(name: str, bundles: list[Bundle], report: Report) -> Counter[str]:
    """Load bundles in a child, so that a death is a finding; in one each, where one of them died."""
    outcomes: Counter[str] = Counter()
    try:
        outcomes.update(json.loads(child_process.run(load_each, bundles, bounds=BOUNDS, spawn=False)))
    except ChildError as error:
        if len(bundles) == 1:
            report(name, bundles[0].model, error)
            return Counter(["finding"])
        for bundle in bundles:
            outcomes += loaded(name, [bundle], report)
    return Counter({f"{name} {outcome}" if outcome != "finding" else outcome: n for outcome, n in outcomes.items()})


def run(good: Sound, mutants: Iterator[tuple[str, bytes]], report: Report) -> Counter[str]:
    """Read every mutant, and load those that can be read; report each finding, and count the others."""
    outcomes: Counter[str] = Counter()
    waiting: dict[str, list[Bundle]] = {name: [] for name in READERS}
    for name, raw in mutants:
        try:
            bundle = read(good, name, raw)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            outcomes["finding"] += 1
            report(name, raw, error)
            continue
        if bundle is None:
            outcomes[f"{name} refused"] += 1
            continue
        waiting[name].append(bundle)
        if len(waiting[name]) == TOGETHER:
            outcomes += loaded(name, waiting[name], report)
            waiting[name] = []
    for name, bundles in waiting.items():
        if bundles:
            outcomes += loaded(name, bundles, report)
    return outcomes


def broken(good: Sound, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield mutants for ever: every second one of model.onnx."""
    draw = random.Random(seed)
    while True:
        name = draw.choice(("model.onnx", "model.onnx", "bundle.json", "golden.json"))
        change = mutated if name == "model.onnx" else mutated_json
        yield name, change(good.files[name], draw)


def every_bit(good: Sound) -> Iterator[tuple[str, bytes]]:
    """Yield every file with every bit flipped, cut at every place, and extended."""
    for name, raw in good.files.items():
        yield from ((name, flipped(raw, bit)) for bit in range(8 * len(raw)))
        yield from ((name, raw[:size]) for size in range(len(raw)))
        yield from ((name, raw + bytes([byte])) for byte in range(256))


def main() -> None:
    """Run for long and print what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_bundles", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many mutants, beside every flipped bit")
    parser.add_argument("--seed", type=int, default=1, help="where the sequence of mutants begins")
    parser.add_argument("--bits", action="store_true", help="flip every bit of every file first")
    chosen = parser.parse_args()
    began_s = time.monotonic()

    def report(name: str, raw: bytes, error: BaseException) -> None:
        where = "".join(traceback.format_exception(error)[-3:])
        print(f"FINDING {name}\n{raw.hex()[:4000]}\n{where}"[:6000], flush=True)  # noqa: T201

    with TemporaryDirectory() as folder:
        good = sound(Path(folder))
        outcomes = run(good, every_bit(good), report) if chosen.bits else Counter()
        outcomes += run(good, islice(broken(good, chosen.seed), chosen.inputs), report)
    for name, count in sorted(outcomes.items()):
        print(f"{count:9} {name}")  # noqa: T201
    print(f"{outcomes.total()} mutants in {time.monotonic() - began_s:.0f} s: {outcomes['finding']} findings")  # noqa: T201
    sys.exit(1 if outcomes["finding"] else 0)


if __name__ == "__main__":
    main()
