"""`batchproof replay`: run the rows of a journal again, and compare every bit with what was answered.

  batchproof replay journal --models models
  batchproof replay journal --models models --id f070c0a0-1
  batchproof replay journal --models models --since 2026-11-01 --until 2026-12-01 --model penguins

First every segment is checked: its digests, its place in its chain and, with --trusted-key, its signature. Then each row
runs again, alone and together with the others of its batch. Exact bundles have the same bits on every machine; float32
bundles on the same kind of processor and engine.

Exit status: 0 every row is equal; 1 a row differs or could not be run, or a segment was changed; 2 the arguments are wrong,
such as a folder that holds no journal.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchproof.installation import hint
from batchproof.service.bundle import reader as bundles
from batchproof.service.errors import USAGE, BundleError, EngineError, JournalError, SettingError
from batchproof.service.inference import model as loading
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.inference.repository import scan
from batchproof.service.settings import Settings

RUN_ROWS = int(Settings.model_fields["run_rows"].default)
DIFFERS = 1


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "replay", help="run the rows of a journal again and compare bits", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("journal", type=Path, metavar="JOURNAL", help="the folder of the journal")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path("models"),
        help="the folder with the bundles that answered (default %(default)s)",
    )
    parser.add_argument("--id", metavar="ID", help="only the rows of one request")
    parser.add_argument("--since", type=_moment, metavar="TIME", help="only answers from this date or time on, UTC")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="only answers before this date or time, UTC")
    parser.add_argument("--model", metavar="NAME", help="only answers of one model")
    parser.add_argument(
        "--trusted-key", type=Path, action="append", default=[], metavar="FILE",
        help="PEM public key; every finished segment must be signed by one of them (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of one run; 0: one for each core (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        from batchproof.service.journal import reader
        from batchproof.service.journal.replay import Choice, replay
    except ImportError:
        print(f"batchproof replay: needs pyarrow: {hint('tables')}", file=sys.stderr)
        return USAGE
    try:
        segments, problems = reader.check(arguments.journal, _verifier(arguments.trusted_key))
        choice = Choice(arguments.id, arguments.since, arguments.until, arguments.model)
        results = replay(segments, _loader(arguments), choice, _progress())
    except (JournalError, SettingError, BundleError) as error:
        print(f"batchproof replay: {error}", file=sys.stderr)
        return USAGE
    if not results and not problems:
        print("batchproof replay: no row of the journal matches", file=sys.stderr)
        return USAGE
    is_sound = not problems and all(result.equal == result.rows for result in results)
    if arguments.json:
        shown = [{**asdict(result), "differing": result.differing} for result in results]
        print(json.dumps({"segments": len(segments), "problems": [asdict(one) for one in problems], "results": shown}))
    else:
        _print(len(segments), problems, results)
    return 0 if is_sound else DIFFERS


def _print(segments: int, problems: Sequence[Any], results: Sequence[Any]) -> None:
    for problem in problems:
        print(f"{problem.segment}: {problem.what}")
    for result in results:
        print(
            f"{result.model} version {result.version}: {result.equal} of {result.rows} rows equal, alone and in batches"
        )
        for why, rows in result.skipped.items():
            print(f"  {rows} rows were not run: {why}")
        if result.differing:
            print(f"  {result.differing} rows differ")
            for name, then in result.then.items():
                print(f"  {name}: {then} answered, {result.now[name]} ran them again")
        for one in result.differences:
            how = "alone" if one.batch_rows == 1 else f"in a batch of {one.batch_rows}"
            print(f"  {one.request_id} row {one.row}, {one.output}: answered {one.answered}, {how} {one.again}")
    print(f"{segments} segments are as they were written; {len(problems)} problems")


def _loader(arguments: argparse.Namespace) -> Callable[[str, int, str], Model | str]:
    """Return what finds a model by its name, version and seal under --models."""
    found, _ = scan(arguments.models)

    def load(name: str, version: int, seal: str) -> Model | str:
        why = f"{arguments.models} holds no {name} version {version}"
        for one in found:
            if one.version is not None and (one.name, one.version) != (name, version):
                continue
            try:
                bundle = bundles.read(one.folder)
                if (bundle.manifest.name, bundle.manifest.version) != (name, version):
                    continue
                if bundle.manifest.sha256 != seal:
                    why = f"{one.folder} is another bundle than the one that answered: its seal is {bundle.manifest.sha256[:12]}…, not {seal[:12]}…"
                    continue
                options = EngineOptions(arguments.device, arguments.threads)
                return loading.load(bundle, options, RUN_ROWS)
            except (BundleError, EngineError) as error:
                why = f"{one.folder}: {error}"
        return why

    return load


def _verifier(paths: Sequence[Path]) -> Callable[[bytes, bytes], bool] | None:
    """Return what checks a signature with any of the keys; None where there are none."""
    if not paths:
        return None
    try:
        from batchproof.service.bundle.signing import keys
    except ImportError as error:
        raise SettingError(f"--trusted-key needs cryptography: {hint('signing')}") from error
    trusted = [keys.read_public_key(path) for path in paths]
    return lambda signature, message: any(keys.is_signed_by(key, signature, message) for key in trusted)


def _progress() -> Callable[[int], None] | None:
    """Return what shows the rows done so far, on a terminal only."""
    if not sys.stderr.isatty():
        return None
    return lambda rows: print(f"\r{rows} rows", end="", file=sys.stderr, flush=True)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date or time such as 2026-11-01 or 2026-11-01T12:00:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
