"""`batchproof replay`: run the rows of a journal again, and compare every bit with what was answered.

  batchproof replay journal --models models
  batchproof replay journal --models models --id f070c0a0-1 --html decision.html
  batchproof replay journal --models models --since 2026-11-01 --until 2026-12-01 --model penguins
  batchproof replay s3://bucket/journal --models models --since 2026-11-01
  batchproof replay journal --models models --against 4
  batchproof replay journal --models models --labels outcomes.csv --window week

First every segment is checked: its digests, its place in its chain and, with --trusted-key, its signature. Then each row
runs again, alone and in large batches, which are not those of its answer. Exact bundles have the same bits on every machine; float32
bundles on the same kind of processor and engine. A journal at an address is copied first, into a temporary folder: with --model
and --since only the segments that may have such rows.

--id shows one request for an auditor: its values by name, the answer, whether the bits are equal again, what each value
contributed, the model card, and what proves it. --against shows what another version of the model would have answered:
changed labels, how large the differences are, the worst rows. --labels joins a file of true values, which came later, to
what was answered, and gives metrics over time with the coverage promised and measured.

Exit status: 0 every row is equal; 1 a row differs or could not be run, no row could be compared with --against, or a segment
was changed; 2 the arguments are wrong, such as a folder that holds no journal.
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
from batchproof.service.cli.parts import replay_text
from batchproof.service.cli.parts.parser import root
from batchproof.service.configuration.settings import RUN_ROWS
from batchproof.service.errors import USAGE, BundleError, JournalError, SettingError, reason
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.journal.replaying.bundles import Shelf

DIFFERS = 1


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("replay", help="run the rows of a journal again and compare bits", description=__doc__)
    parser.add_argument(
        "journal", type=root, metavar="JOURNAL", help="the folder of the journal, or its address (journal_upload)"
    )
    parser.add_argument(
        "--models",
        type=root,
        default=Path("models"),
        help="the folder or the address of the bundles that answered (default %(default)s)",
    )
    parser.add_argument("--id", metavar="ID", help="only the rows of one request, shown in full")
    parser.add_argument("--row", type=int, metavar="N", help="with --id, show this row of the request alone, from 0 on")
    parser.add_argument("--html", type=Path, metavar="FILE", help="with --id, write them as one HTML page too")
    parser.add_argument(
        "--against", type=int, metavar="VERSION", help="compare with this version of the models instead"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="CSV or Parquet with request_id, row (without it 0) and the target: metrics instead",
    )
    parser.add_argument(
        "--window", choices=("hour", "day", "week", "all"), default="day", help="of --labels (default %(default)s)"
    )
    parser.add_argument("--since", type=_moment, metavar="TIME", help="only answers from this date or time on, UTC")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="only answers before this date or time, UTC")
    parser.add_argument("--model", metavar="NAME", help="only answers of one model")
    parser.add_argument(
        "--trusted-key", type=Path, action="append", default=[], metavar="FILE",
        help="PEM public key; every finished segment must be signed by one of them (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of one run; 0: one for each core (default %(default)s)")
    parser.add_argument(
        "--run-rows", type=int, default=RUN_ROWS, help="most rows of one engine run (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        from batchproof.service.journal.remote.downloading import local_journal
    except ImportError:
        print(f"batchproof replay: needs pyarrow: {hint('tables')}", file=sys.stderr)
        return USAGE
    try:
        _check(arguments)
        with local_journal(arguments.journal, arguments.since, arguments.model) as folder:
            content, is_sound = _read(arguments, folder)
    except (JournalError, SettingError, BundleError) as error:
        print(f"batchproof replay: {error}", file=sys.stderr)
        return USAGE
    if content is None:
        print("batchproof replay: no row of the journal matches", file=sys.stderr)
        return USAGE
    print(json.dumps(content) if arguments.json else replay_text.text(content))
    return 0 if is_sound else DIFFERS


def _read(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, Any] | None, bool]:
    """Check a journal and return what was asked for, None where no row matches, and whether all of it is sound."""
    from batchproof.service.journal import reader

    segments, problems = reader.check(folder, _verifier(arguments.trusted_key))
    shelf = Shelf.of(arguments.models, EngineOptions(arguments.device, arguments.threads), arguments.run_rows)
    checks = {
        "segments": len(segments),
        "signed_segments": sum(one.signed for one in segments) if arguments.trusted_key else None,
        "problems": [asdict(problem) for problem in problems],
    }
    content, is_sound = _answer(arguments, segments, shelf, checks)
    if not any(content.values()) and not problems:
        return None, True
    return checks | content, is_sound and not problems


def _answer(
    arguments: argparse.Namespace, segments: Sequence[Any], shelf: Shelf, checks: dict[str, Any]
) -> tuple[dict[str, Any], bool]:
    """Return what was asked for, ready for JSON, and whether all of it is as it was answered."""
    from batchproof.service.journal.replaying.replay import Choice, replay

    choice = Choice(arguments.id, arguments.since, arguments.until, arguments.model)
    if arguments.against is not None:
        from batchproof.service.journal.replaying.against import compare

        def other(name: str) -> Any:
            return shelf.version(name, arguments.against)

        compared = compare(segments, shelf.answered, other, arguments.against, choice, _progress())
        return {"comparisons": [comparison.as_dict() for comparison in compared]}, any(one.rows for one in compared)
    if arguments.labels is not None:
        from batchproof.service.journal.replaying.labels import LabelFile, measure

        measured = measure(segments, shelf.answered, LabelFile(arguments.labels), choice, arguments.window)
        return {"windows": [one.as_dict() for one in measured]}, True
    results = replay(segments, shelf.answered, choice, _progress())
    content: dict[str, Any] = {"results": [{**asdict(result), "differing": result.differing} for result in results]}
    if arguments.id is not None:
        content["decisions"], content["decision_rows"] = _decisions(arguments, segments, shelf, checks)
    return content, all(result.equal == result.rows for result in results)


def _decisions(
    arguments: argparse.Namespace, segments: Sequence[Any], shelf: Shelf, checks: dict[str, Any]
) -> tuple[list[dict[str, Any]], int]:
    """Return what an auditor sees of one request and its number of rows; writes the page if wanted. Raises SettingError."""
    from batchproof.service.journal.replaying.decision import Asked, decisions

    shown, total = decisions(segments, shelf.answered, Asked(arguments.id, arguments.row))
    if arguments.html is not None and shown:
        from batchproof.service.journal.replaying.page import more_rows, page

        try:
            checked = [replay_text.checked(checks), *map(replay_text.named, checks["problems"])]
            arguments.html.write_text(page(shown, checked, more_rows(total - len(shown))), encoding="utf-8")
        except OSError as error:
            raise SettingError(f"the page cannot be written: {reason(error)}") from error
    return shown, total


def _check(arguments: argparse.Namespace) -> None:
    """Raise SettingError where flags do not go together."""
    if arguments.run_rows < 1:
        raise SettingError(f"--run-rows is {arguments.run_rows}; a run has at least one row")
    for name in ("row", "html"):
        if getattr(arguments, name) is not None and arguments.id is None:
            raise SettingError(f"--{name} is about one request: name it with --id")
    if arguments.against is not None and arguments.labels is not None:
        raise SettingError("--against and --labels are two questions: ask one after the other")


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
