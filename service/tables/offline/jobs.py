"""Which file is read and which is written: inputs, globs among them, and one output."""

from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, BY_SUFFIX, Format, pyarrow

ARROW_FILE_MAGIC = b"ARROW1"


class PlanError(Exception):
    """What was asked for cannot be done; the text is one sentence without its full stop."""


class Task(NamedTuple):
    """One file to score."""

    source: Path
    target: Path

    @property
    def key(self) -> dict[str, str | int]:
        """Return what the source is known by: another key is another table."""
        found = self.source.stat()
        return {"source": str(self.source.resolve()), "bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def plan(inputs: Sequence[str], output: str) -> list[Task]:
    """Return a task for each input; raises PlanError."""
    sources = list(dict.fromkeys(path for text in inputs for path in _paths(text)))
    target = Path(output)
    is_folder = target.is_dir() or output.endswith("/") or len(sources) > 1
    if not is_folder:
        tasks = [Task(sources[0], target)]
    elif target.exists() and not target.is_dir():
        raise PlanError(f"{output} is a file; {len(sources)} inputs need a folder")
    else:
        tasks = [Task(source, target / source.name) for source in sources]
    for task in tasks:
        _check(task)
    targets = [task.target for task in tasks]
    for path in targets:
        if targets.count(path) > 1:
            raise PlanError(f"two inputs have the name {path.name}: their answers would be one file")
    return tasks


def format_of(path: Path) -> Format:
    """Return the format that the ending names; raises PlanError."""
    found = BY_SUFFIX.get(path.suffix.lower())
    if found is None:
        raise PlanError(f"{path} has the ending {path.suffix or '(none)'!r}; tables end in {', '.join(BY_SUFFIX)}")
    return found


def open_source(path: Path) -> tuple[BinaryIO, Format]:
    """Open a table, as Arrow opens files where it is Arrow's; an Arrow stream may have the ending of an Arrow file."""
    found = format_of(path)
    if not found.needs_pyarrow:
        return path.open("rb"), found
    arrow = pyarrow(found)
    if found == ARROW_FILE:
        with path.open("rb") as file:
            found = ARROW_FILE if file.read(len(ARROW_FILE_MAGIC)) == ARROW_FILE_MAGIC else ARROW_STREAM
    return cast(BinaryIO, arrow.OSFile(str(path))), found


def _paths(text: str) -> Iterator[Path]:
    path = Path(text)
    if path.is_file():
        yield path
        return
    if path.is_dir():
        raise PlanError(
            f"{text} is a folder; a table is a file, or several are a glob in quotes such as '{path / '*.csv'}'"
        )
    has_pattern = not set("*?[").isdisjoint(text)
    matches = sorted(map(Path, glob(text, recursive=True))) if has_pattern else []  # noqa: PTH207 - absolute ones too
    found = [match for match in matches if match.is_file()]
    if not found:
        raise PlanError(f"there is no file {text}")
    yield from found


def _check(task: Task) -> None:
    format_of(task.source)
    format_of(task.target)
    if task.target.exists() and task.target.samefile(task.source):
        raise PlanError(f"{task.source} would be overwritten by its own answer")
