"""What an explanation costs, and how far it may be off.

    python -m bench.explain BUNDLE [BUNDLE ...]

One request with one row is decoded, run and encoded as the service does it, plain and with "explain": true, in turn;
the ratio of the medians is the cost. Where contributions are sampled, their standard errors are shown beside the size
of what they add up to, and up to 14 features they are held against the exact Shapley values.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import numpy as np

from batchproof.service.bundle import reader as bundle
from batchproof.service.features import attribution as explain
from batchproof.service.features.arrays import Arrays
from batchproof.service.features.attribution import Contributions
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.protocols.interface import Call, Codec, Limits
from batchproof.service.protocols.native.protocol import Native
from batchproof.service.protocols.options import baseline_of

ROUNDS = 60
ROWS = 16  # rows whose errors are looked at
EXACT_FEATURES = 14  # 16 384 runs a row


def main() -> None:
    """Print one line a bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="models/NAME/VERSION")
    print("| bundle | features | runs a row | plain µs | explained ÷ plain | standard error | error against exact |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for folder in parser.parse_args().bundles:
        print(line(model.load(bundle.read(folder), EngineOptions(device="cpu"), run_rows=512)), flush=True)


def line(one: Model) -> str:
    """Measure one bundle."""
    features = len(one.manifest.signature.inputs)
    plan = explain.plan(features)
    plain, explained = costs(one)
    rows = one.encoder.encode_rows(one.bundle.golden.rows[:ROWS]).arrays
    found = contributions(one, plan, rows)
    size = np.abs(found.values).sum(axis=1, keepdims=True).mean()  # what the contributions of a row come to
    stated = f"{found.errors.mean() / size:.2%}" if not plan.is_exact else "exact"
    off = "exact"
    if not plan.is_exact:
        off = "not known"
        if features <= EXACT_FEATURES:
            every = contributions(one, explain._all_sets(features), rows)  # noqa: SLF001 - past the limit that serving has
            off = f"{np.abs(found.values - every.values).mean() / size:.2%}"
    name = one.manifest.name
    return f"| {name} | {features} | {plan.runs} | {1e6 * plain:.0f} | {explained / plain:.1f} | {stated} | {off} |"


def costs(one: Model) -> tuple[float, float]:
    """Return the median seconds of a plain and of an explained request."""
    codec = Native().codec(one, Limits())
    row = one.bundle.golden.rows[0]
    bodies = [json.dumps({"rows": [row], **more}).encode() for more in ({}, {"explain": True})]
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for body, times in zip(bodies, taken, strict=True):
            times.append(seconds(codec, one, body))
    return median(taken[0][5:]), median(taken[1][5:])


def seconds(codec: Codec, one: Model, body: bytes) -> float:
    """Answer one request."""
    start_s = time.perf_counter()
    call = Call(body, [], "id")
    decoded = codec.decode(call)
    (outputs,) = one.runner.run([decoded.arrays])
    codec.encode(call, decoded, outputs)
    return time.perf_counter() - start_s


def contributions(one: Model, plan: explain.Plan, rows: Arrays) -> Contributions:
    """Explain rows by a plan."""
    mixed = explain.expand(plan, rows, baseline_of(one.manifest), one.manifest.signature)
    (outputs,) = one.runner.run([mixed])
    scores = outputs["value"] if "value" in outputs else explain.centred(outputs["scores"])
    return explain.reduce(plan, scores)


if __name__ == "__main__":
    main()
