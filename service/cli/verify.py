"""`batchproof verify`: whether a model, ours or any ONNX file, is safe to batch on this host.

Exit status: 0 no bit changed; 1 some did; 2 the question makes no sense, or the model does not load or run.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchproof.service.bundle import reader as bundle
from batchproof.service.cli.verify_table import table
from batchproof.service.errors import BundleError, EngineError, reason
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference import model
from batchproof.service.inference import repository as models_folder
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.service.inference.runner import Feeds, Runner
from batchproof.service.invariance import any_onnx as foreign
from batchproof.service.invariance.check import Effort, verify
from batchproof.service.invariance.probe_rows import draws_for
from batchproof.service.invariance.verdict import InvarianceError, Policy, Verification
from batchproof.service.invariance.violations import read_record, replay
from batchproof.service.settings import RUN_ROWS

BUDGET_S = 0.5  # more than while loading: the table shows how many rows change


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("verify", help="check that rows do not depend on their batch", description=__doc__)
    configure(parser)
    parser.set_defaults(run=run)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("path", type=Path, help="models/NAME, models/NAME/VERSION, or any FILE.onnx with a batch axis")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=_count, default=1, help="of one run; 0: one for each core")
    parser.add_argument("--rows", type=_positive, default=0, help="compare at least this many probe rows")
    parser.add_argument("--run-rows", type=_positive, default=RUN_ROWS, help="the largest run (default %(default)s)")
    parser.add_argument("--policy", choices=("require", "tile", "report"), default="require", help="as when serving")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--replay", type=Path, metavar="RECORD", help="run a recorded violation of the audit again")
    parser.add_argument("--session-config", action="append", default=[], type=_pair, metavar="KEY=VALUE",
                        help="a session configuration entry of onnxruntime")  # fmt: skip
    parser.add_argument("--dim", action="append", default=[], type=_dim, metavar="NAME=LENGTH",
                        help="FILE.onnx: length of a free axis, by its name or as INPUT.AXIS")  # fmt: skip
    parser.add_argument("--int-below", type=_positive, default=2, metavar="N",
                        help="FILE.onnx: integers are drawn from 0 to N - 1 (default %(default)s)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        if arguments.path.is_dir():
            return _verify_bundle(arguments)
        return _verify_file(arguments)
    except OSError as error:
        print(f"batchproof verify: {reason(error)}", file=sys.stderr)
        return 2
    except (BundleError, EngineError, ValueError) as error:
        print(f"batchproof verify: {error}", file=sys.stderr)
        return 2


def _verify_bundle(arguments: argparse.Namespace) -> int:
    if arguments.dim:
        raise ValueError("--dim is for FILE.onnx: a bundle's inputs have no free axis but the rows")
    folder = models_folder.newest(arguments.path)
    with models_folder.naming(folder):
        read = bundle.read(folder)
        loaded = model.load(read, _options(arguments), arguments.run_rows)
    if arguments.replay:
        return _replay(loaded.runner, arguments.replay)
    manifest = read.manifest
    subject = f"{manifest.name} version {manifest.version} · {manifest.arithmetic.kind} · sha256 {manifest.sha256[:12]}"
    proved = manifest.arithmetic.certificate is not None
    return _report(arguments, loaded.runner, draws_for(read), subject, proved=proved)


def _verify_file(arguments: argparse.Namespace) -> int:
    if not arguments.path.is_file():
        raise ValueError(f"{arguments.path} is neither a folder with a bundle nor a file")
    if arguments.replay:
        raise ValueError("--replay takes the folder of a bundle: records are of served models")
    engine = Engine(str(arguments.path), _options(arguments), names=None)
    stranger = foreign.prepare(engine, dict(arguments.dim), arguments.int_below)
    if not stranger.is_repeatable:
        print(
            "note: the same batch run twice gave different bits: the graph, or the engine, is random", file=sys.stderr
        )
    if stranger.without_rows:
        print(
            f"note: outputs without a batch axis are not compared: {', '.join(stranger.without_rows)}", file=sys.stderr
        )
    return _report(arguments, Runner(stranger, arguments.run_rows), stranger.draw, str(arguments.path), proved=False)


def _report(
    arguments: argparse.Namespace, runner: Runner, draw: Callable[[int], Feeds | Arrays], subject: str, *, proved: bool
) -> int:
    effort = Effort(budget_s=BUDGET_S, rows=arguments.rows, keep_going=True)
    found = _found(runner, draw, arguments.policy, effort, proved=proved)
    if arguments.json:
        print(json.dumps({"subject": subject, **found.as_dict()}, ensure_ascii=False))
    else:
        print(table(found, subject))
    return 0 if all(attempt.holds for attempt in found.attempts) else 1


def _found(
    runner: Runner, draw: Callable[[int], Feeds | Arrays], policy: Policy, effort: Effort, *, proved: bool
) -> Verification:
    try:
        return verify([runner], draw, policy, proved=proved, effort=effort).verification
    except InvarianceError as error:
        return error.verification


def _replay(runner: Runner, path: Path) -> int:
    difference = replay(runner, read_record(path))
    if difference is None:
        print("not reproduced: on this host, with these options, the row gets the same bits in its batch and alone")
        return 0
    print(
        f"reproduced: output {difference.output!r} at position {difference.position} of {difference.batch_rows} rows "
        f"is {difference.batched}, alone it is {difference.alone} (bytes as hex)"
    )
    return 1


def _options(arguments: argparse.Namespace) -> EngineOptions:
    return EngineOptions(device=arguments.device, threads=arguments.threads, entries=tuple(arguments.session_config))


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not (number := _count(text)):
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return number


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _dim(text: str) -> tuple[str, int]:
    name, length = _pair(text)
    if not length.isascii() or not length.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LENGTH")
    return name, int(length)
