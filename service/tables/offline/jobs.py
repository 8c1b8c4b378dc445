"""Plan which files are read and written: inputs, which may be globs, and one output."""

from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple

from batchproof.service.stores.store import is_pattern
from batchproof.service.tables.formats import BY_SUFFIX
from batchproof.service.tables.offline.sources import (
    SourceError,
    TablePath,
    format_of,
    packing_of,
    parquet_files,
    table_path,
)

TEXT = ".txt"  # of a table whose separator is found; answers say which they have


class PlanError(SourceError):
    """The job is not possible; the text is one sentence without its full stop."""


class Task(NamedTuple):
    """One file to score."""

    source: TablePath
    target: TablePath

    @property
    def key(self) -> dict[str, str | int]:
        """Return what the source is known by: another key is another table."""
        files = parquet_files(self.source) if self.source.is_dir() else [self.source]
        facts = [path.stat() for path in files]
        return {
            "source": str(self.source.resolve()),
            "bytes": sum(fact.st_size for fact in facts),
            "mtime_ns": max(fact.st_mtime_ns for fact in facts),
        }


def plan(inputs: Sequence[str], output: str) -> list[Task]:
    """Return a task for each input; raises PlanError."""
    sources = list(dict.fromkeys(path for text in inputs for path in _paths(text)))
    target = table_path(output)
    if not isinstance(target, Path) and target.address.is_dataset:
        raise PlanError(
            f"{output} can be read, but not written: write to a file, and upload it with the hub's own tools"
        )
    is_folder = target.is_dir() or output.endswith("/")
    if len(sources) == 1 and not is_folder:
        tasks = [Task(sources[0], target)]
    elif target.exists() and not target.is_dir():
        raise PlanError(f"{output} is a file; {len(sources)} inputs need a folder")
    elif target.suffix.lower() in BY_SUFFIX and not is_folder:
        raise PlanError(f"{output} is the name of a file; {len(sources)} inputs need a folder, such as {target.stem}/")
    else:
        tasks = [Task(source, target / _answer_name(source)) for source in sources]
    for task in tasks:
        _check(task)
    targets = [task.target for task in tasks]
    for path in targets:
        if targets.count(path) > 1:
            same = [str(task.source) for task in tasks if task.target == path]
            raise PlanError(f"the answers of {same[0]} and {same[1]} would both be {path}: score them into two folders")
    return tasks


def _paths(text: str) -> Iterator[TablePath]:
    path = table_path(text)
    if path.is_file():
        yield path
        return
    if path.is_dir():
        if not parquet_files(path):
            raise PlanError(
                f"{text} is a folder; a table is a file, or several are a glob in quotes such as '{text.rstrip('/')}/*.csv'; only a "
                "folder of Parquet files is a table, and there are none in it"
            )
        yield path
        return
    files = _matches(path) if is_pattern(text) else []
    if not files:
        hint = "" if not isinstance(path, Path) or not glob(text) else ", only folders: name a folder itself"  # noqa: PTH207
        raise PlanError(f"no file matches {text}{hint}" if is_pattern(text) else f"there is no file {text}")
    yield from files


def _matches(pattern: TablePath) -> Sequence[TablePath]:
    if isinstance(pattern, Path):
        matches = sorted(map(Path, glob(str(pattern), recursive=True)))  # noqa: PTH207 - absolute ones too
        return [match for match in matches if match.is_file()]
    return pattern.matches()


def _answer_name(source: TablePath) -> str:
    """Return the name of the answer in a folder: that of the table, unpacked."""
    if source.is_dir():
        return f"{source.name}.parquet"
    name = Path(source.stem if packing_of(source) else source.name)
    return str(name.with_suffix(".csv") if name.suffix.lower() == TEXT else name)


def _check(task: Task) -> None:
    format_of(task.source)
    format_of(task.target)
    if task.target.suffix.lower() == TEXT:
        raise PlanError(
            f"{task.target} has the ending {TEXT!r}, which names no separator; answers that are tables end in .csv, .tsv and so on"
        )
    if packing_of(task.target):
        raise PlanError(
            f"{task.target} is compressed, and answers are written uncompressed: use the name {task.target.stem}"
        )
    if _is_same(task.source, task.target):
        raise PlanError(f"{task.source} would be overwritten by its own answer")
    if task.source.is_dir() and _is_below(task.target, task.source):
        raise PlanError(f"{task.target} is in {task.source}, and would be a part of that table: write it elsewhere")


def _is_below(target: TablePath, folder: TablePath) -> bool:
    if isinstance(target, Path) and isinstance(folder, Path):
        return folder.resolve() in target.resolve().parents
    return str(target).startswith(f"{folder}/")


def _is_same(source: TablePath, target: TablePath) -> bool:
    if isinstance(source, Path) and isinstance(target, Path):
        return target.exists() and target.samefile(source)
    return source == target
