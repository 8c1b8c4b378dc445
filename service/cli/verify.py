"""`batchproof verify`: whether a model is safe to batch: ours or any ONNX file on this host, or one on any server.

  batchproof verify models/penguins
  batchproof verify model.onnx --threads 2
  batchproof verify --url http://localhost:8000/v2/models/penguins      # Triton, KServe, MLServer, Batchproof

Exit status: 0 no bit changed; 1 some did; 2 the arguments are wrong, the model does not load or run, or the limit of time or
memory was reached before the check was complete. The check runs in a child process with both limits, so this command ends
with one sentence whatever the file contains.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchproof.service.bundle import reader as bundle
from batchproof.service.cli.parts.parser import root
from batchproof.service.cli.parts.verify_table import table
from batchproof.service.configuration.address import Address
from batchproof.service.configuration.settings import RUN_ROWS
from batchproof.service.errors import USAGE, BundleError, EngineError, printable, reason
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference import model
from batchproof.service.inference.catalogue import roots
from batchproof.service.inference.catalogue.repository import naming
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.service.inference.runner import Feeds, Runner
from batchproof.service.inference.trial import TrialLimits
from batchproof.service.invariance.check import Effort, verify
from batchproof.service.invariance.onnx_files.any_onnx import BatchOptions, OnnxModel, Session, prepare
from batchproof.service.invariance.probe_rows import draws_for
from batchproof.service.invariance.time_budget import TimeBudget
from batchproof.service.invariance.verdict import InvarianceError, Policy, Verification
from batchproof.service.invariance.violations import read_record, replay
from batchproof.service.runtime.child_process import Bounds, command

if TYPE_CHECKING:
    from batchproof.service.cli.parts.server_check import Concurrent

CALLERS = 16
BUDGET_S = 0.5  # more than while loading: the table shows how many rows change
TIMEOUT_S = 10
MEMORY_GIB = 4
GRACE_S = 5.0  # for one run to end after the time is up
NOT_ONNX = ("INVALID_PROTOBUF", "No graph was found")  # in the engine's messages
ADVICE = {
    "time": " before it was done; --timeout SECONDS allows more",
    "memory": "; --memory GIB allows more, --run-rows N makes batches smaller",
}


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("verify", help="check that rows do not depend on their batch", description=__doc__)
    configure(parser)
    parser.set_defaults(run=run)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "path",
        type=root,
        nargs="?",
        help="models/NAME, models/NAME/VERSION, an address of one, or any FILE.onnx with a batch axis",
    )
    parser.add_argument("--url", metavar="URL", help="in place of a path: a model of a server that speaks the Open "
                        "Inference Protocol v2 over HTTP, as http://HOST:PORT/v2/models/NAME")  # fmt: skip
    parser.add_argument("--callers", type=_positive, default=CALLERS, metavar="N",
                        help="with --url: how many send single rows at once, which the server may batch (default %(default)s)")  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=_count, default=1, help="engine threads of one run; 0: one for each core")
    parser.add_argument("--rows", type=_positive, default=0, help="compare at least this many probe rows")
    parser.add_argument("--run-rows", type=_positive, default=RUN_ROWS, help="the largest run (default %(default)s)")
    parser.add_argument("--policy", choices=("require", "tile", "report"), default="require", help="as when serving")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--timeout", type=_positive, default=TIMEOUT_S, metavar="SECONDS",
                        help="time limit of the whole check; after it, the results so far are shown (default %(default)s)")  # fmt: skip
    parser.add_argument("--memory", type=_positive, default=MEMORY_GIB, metavar="GIB",
                        help="memory limit for loading and running the model (default %(default)s)")  # fmt: skip
    parser.add_argument("--replay", type=Path, metavar="RECORD", help="run a recorded violation of the audit again")
    parser.add_argument("--session-config", action="append", default=[], type=_pair, metavar="KEY=VALUE",
                        help="a session configuration entry of onnxruntime")  # fmt: skip
    _configure_file(
        parser.add_argument_group("FILE.onnx and --url", "what the file or the server leaves open about its inputs")
    )


def _configure_file(group: Any) -> None:
    group.add_argument(
        "--batch", metavar="NAME", help="the batch axis, by its name or as INPUT.AXIS, where it is not the first"
    )
    group.add_argument("--dim", action="append", default=[], type=_dim, metavar="NAME=LENGTH",
                       help="length of a free axis, by its name or as INPUT.AXIS")  # fmt: skip
    group.add_argument("--shape", action="append", default=[], type=_shape, metavar="INPUT=rows,4",
                       help="shape of an input whose shape the file leaves out: lengths, and names of free axes")  # fmt: skip
    group.add_argument("--int-below", type=_positive, default=2, metavar="N",
                       help="integers are drawn from 0 to N - 1 (default %(default)s)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the command in a child process; returns the exit status."""
    if (arguments.path is None) == (arguments.url is None):
        print("batchproof verify: give a path or --url, one of the two", file=sys.stderr)
        return USAGE
    try:
        if isinstance(arguments.path, Address):
            arguments.path = roots.newest(arguments.path)
    except BundleError as error:
        print(f"batchproof verify: {printable(str(error))}", file=sys.stderr)
        return USAGE
    bounds = Bounds(arguments.memory << 30, arguments.timeout + GRACE_S, is_strict=arguments.device == "cpu")
    return command(_run, arguments, bounds=bounds, name="batchproof verify", advice=ADVICE)


def _run(arguments: argparse.Namespace) -> int:
    allowed = TimeBudget(arguments.timeout, _show_progress)
    try:
        if arguments.url is not None:
            return _verify_server(arguments, allowed)
        if arguments.path.is_dir():
            return _verify_bundle(arguments, allowed)
        return _verify_file(arguments, allowed)
    except OSError as error:
        print(f"batchproof verify: {reason(error)}", file=sys.stderr)
    except (BundleError, EngineError, ValueError) as error:
        print(f"batchproof verify: {printable(str(error))}", file=sys.stderr)
    return 2


def _show_progress(sentence: str) -> None:
    """Print the progress immediately; other output waits until the end."""
    os.write(2, f"batchproof verify: {sentence}\n".encode())


def _verify_bundle(arguments: argparse.Namespace, allowed: TimeBudget) -> int:
    for option in ("dim", "batch", "shape"):
        if getattr(arguments, option):
            raise ValueError(f"--{option} is for FILE.onnx: the only free axis of a bundle's inputs is the rows")
    folder = roots.newest(arguments.path)
    with naming(folder):
        read = bundle.read(folder)
        limits = TrialLimits(arguments.memory << 30, arguments.timeout)
        loaded = model.load(read, _options(arguments), arguments.run_rows, limits=limits)
    if arguments.replay:
        return _replay(loaded.runner, arguments.replay)
    manifest = read.manifest
    subject = f"{manifest.name} version {manifest.version} · {manifest.arithmetic.kind} · sha256 {manifest.sha256[:12]}"
    proved = manifest.arithmetic.certificate is not None
    return _report(arguments, loaded.runner, draws_for(read), subject, allowed, proved=proved)


def _verify_file(arguments: argparse.Namespace, allowed: TimeBudget) -> int:
    if not arguments.path.is_file():
        raise ValueError(f"{arguments.path} is neither a folder with a bundle nor a file")
    if arguments.replay:
        raise ValueError("--replay needs the folder of a bundle: only served models have records")
    with arguments.path.open("rb"):  # the engine would give the number of the error, not its name
        pass
    onnx_model = _prepared(arguments, _engine(arguments))
    runner = Runner(onnx_model, arguments.run_rows)
    return _report(arguments, runner, onnx_model.draw, str(arguments.path), allowed, proved=False)


def _verify_server(arguments: argparse.Namespace, allowed: TimeBudget) -> int:
    if arguments.replay:
        raise ValueError("--replay needs the folder of a bundle: only served models have records")
    from batchproof.service.cli.parts import server_check
    from batchproof.service.cli.parts.inference_server import ServerSession

    served = _prepared(arguments, ServerSession(arguments.url))
    runner = Runner(served, arguments.run_rows)
    together = server_check.check(runner, served.draw, arguments.callers)
    return _report(arguments, runner, served.draw, arguments.url, allowed, proved=False, together=together)


def _prepared(arguments: argparse.Namespace, session: Session) -> OnnxModel:
    """Settle what the session leaves open, and say what is not compared."""
    options = BatchOptions(
        dict(arguments.dim), arguments.batch, dict(arguments.shape), arguments.int_below, arguments.run_rows
    )
    onnx_model = prepare(session, options)
    if not onnx_model.is_repeatable:
        print(
            "note: the same batch run twice gave different bits: the graph, or the engine, is random", file=sys.stderr
        )
    if onnx_model.without_rows:
        names = ", ".join(map(printable, onnx_model.without_rows))
        print(f"note: outputs without a batch axis are not compared: {names}", file=sys.stderr)
    return onnx_model


def _engine(arguments: argparse.Namespace) -> Engine:
    """Return the loaded file; raises ValueError where it is not ONNX, EngineError where the engine cannot load it."""
    try:
        return Engine(str(arguments.path), _options(arguments), names=None)
    except EngineError as error:
        if any(sign in str(error) for sign in NOT_ONNX):
            raise ValueError(f"{arguments.path} is not an ONNX file, or it is cut off") from error
        raise


def _report(
    arguments: argparse.Namespace,
    runner: Runner,
    draw: Callable[[int], Feeds | Arrays],
    subject: str,
    allowed: TimeBudget,
    *,
    proved: bool,
    together: "Concurrent | None" = None,
) -> int:
    effort = Effort(budget_s=BUDGET_S, rows=arguments.rows, keep_going=True, time=allowed)
    verification = _verification(runner, draw, arguments.policy, effort, proved=proved)
    if arguments.json:
        concurrent = {} if together is None else {"concurrent": together.as_dict()}
        print(json.dumps({"subject": subject, **verification.as_dict(), **concurrent}, ensure_ascii=False))
    else:
        print("\n".join(map(printable, table(verification, subject).splitlines())))
        if together is not None:
            print(together.sentence)
    if verification.status == "undecided":
        print(
            f"batchproof verify: not decided within {arguments.timeout} s; --timeout SECONDS allows more",
            file=sys.stderr,
        )
        return 2
    is_changed = together is not None and together.changed > 0
    return 1 if is_changed or not all(attempt.holds for attempt in verification.attempts) else 0


def _verification(
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


def _shape(text: str) -> tuple[str, list[int | str]]:
    name, sizes = _pair(text)
    return name, [int(size) if size.isascii() and size.isdecimal() else size for size in sizes.split(",")]
