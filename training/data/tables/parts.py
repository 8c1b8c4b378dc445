"""The files that are one table: a file alone, or parts in a folder or behind a pattern, in the order of their names."""

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import NamedTuple

from batchproof.service.features.row_encoder import listed
from batchproof.service.stores.store import is_pattern
from batchproof.service.tables.formats import ARROW_FILE, ARROW_STREAM, PARQUET, Format
from batchproof.service.tables.offline.sources import SourceError, format_of, parquet_files, visible_files
from batchproof.training.data.tables.table_error import TableError


class Parts(NamedTuple):
    """The files of one table, all of one format."""

    folder: Path  # that parts are named from
    files: Sequence[Path]
    format: Format

    @property
    def names(self) -> list[str]:
        """What the parts are called in messages: their paths below the folder."""
        return [file.relative_to(self.folder).as_posix() for file in self.files]


def parts_of(path: Path) -> Parts:
    """Return the files that a path means: a file, a folder, or a pattern of `*`, `?`, `[…]` and `**`. Raises TableError."""
    if path.is_file():
        return Parts(path.parent, [path], format_of(path))
    if path.is_dir():
        files = parquet_files(path)
        return Parts(path, files, PARQUET) if files else _text_parts(path)
    if not is_pattern(str(path)):
        raise TableError(f"there is no file {path}.")
    found = {Path(name) for name in glob(str(path), recursive=True)}  # noqa: PTH207 - absolute patterns too
    shown = [
        file for file in found if file.name[0] != "_" or path.name[0] == "_"
    ]  # as in a folder: `_SUCCESS` is no part
    files = sorted(file for file in shown if file.is_file())  # a file that `**` finds twice is one part
    if not files:
        raise TableError(f"no file matches {path}.")
    return _of_one_format(path, fixed_folder(path), files)


def fixed_folder(pattern: Path) -> Path:
    """Return the folder that a pattern names in full, which is the path of every file that it matches."""
    fixed = [*pattern.parts[: next(place for place, part in enumerate(pattern.parts) if is_pattern(part))]]
    return Path(*fixed)


def _text_parts(folder: Path) -> Parts:
    """Return the text files of a folder; files in folders below it would be lost, so they are refused."""
    files = visible_files(folder)
    if not files:
        raise TableError(f"{folder} is a folder without files: a table is a file, or a folder of its parts.")
    below = next((file for file in files if file.parent != folder), None)
    if below is not None:
        raise TableError(
            f"{folder} has no Parquet files, and {below.relative_to(folder)} is in a folder below it: name the parts of the table "
            f"by a pattern in quotes, such as '{folder}/**/*{below.suffix}'."
        )
    return _of_one_format(folder, folder, files)


def _of_one_format(path: Path, folder: Path, files: Sequence[Path]) -> Parts:
    formats: dict[Format, Path] = {}
    for file in files:
        try:
            formats.setdefault(format_of(file), file)
        except SourceError as error:
            raise TableError(f"{error}. Name the parts of the table by a pattern in quotes.") from error
    if len(formats) > 1:
        names = listed([file.name for file in formats.values()])
        raise TableError(
            f"the parts of {path} are of several formats, such as {names}: name those of one format by a pattern in quotes."
        )
    (found,) = formats
    if len(files) > 1 and found in (ARROW_FILE, ARROW_STREAM):
        raise TableError(f"{path} means {len(files)} Arrow files: a table in parts is CSV, JSON Lines or Parquet.")
    return Parts(folder, files, found)


def model_name(path: Path) -> str:
    """Return what a model is called after its table: by the name of the file or folder, or of a pattern's folder."""
    is_there = os.path.exists(path)  # noqa: PTH110 - Path.exists raises where a folder may not be searched; reading says so
    named = fixed_folder(path) if is_pattern(str(path)) and not is_there else path
    return (named.name or path.name).split(".")[0]
