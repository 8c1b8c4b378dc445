"""An answer in parts: only finished parts exist, so an interrupted job continues after the last one.

The parts are in a folder next to the answer, `<answer>.parts/`, with a note of the job that they belong to; those of an
answer in an object store are in the cache of this machine. The answer itself appears in one step, when it is complete.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from batchproof.service.errors import ServiceError
from batchproof.service.runtime.system import sync_folder
from batchproof.service.stores import cache
from batchproof.service.tables.formats import Format
from batchproof.service.tables.offline.sources import SourceError, TablePath

LOCK = "lock"


class Part(NamedTuple):
    """One finished part."""

    path: Path
    rows: int
    bad_rows: int


class Parts:
    """The parts of one answer."""

    def __init__(self, target: TablePath, job: Mapping[str, Any]) -> None:
        """Take up the finished parts of the same `job`; those of another one are removed.

        Raises SourceError where another run on this machine writes the same answer.
        """
        self._target = target
        self._folder = _folder_of(target)
        self._lock = _locked(self._folder, target)
        self.finished: list[Part] = []
        note = self._folder / "job.json"
        if note.is_file() and json.loads(note.read_bytes()) == json.loads(json.dumps(job)):
            self.finished = list(self._found())
            return
        for path in self._folder.iterdir():
            if path.name != LOCK:
                path.unlink()
        _write(note, json.dumps(job).encode())

    def __enter__(self) -> Self:
        """Return the parts."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Keep the finished parts for the next run; without any, remove the folder.

        A table that was refused with 422 would be refused again, so its parts are removed too.
        """
        is_refused = isinstance(error, ServiceError) and error.status == 422
        if is_refused or not self.finished:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    @property
    def rows(self) -> int:
        """Return how many rows of the table are answered."""
        return sum(part.rows for part in self.finished)

    def next_file(self) -> BinaryIO:
        """Return the file of the next part, which is the caller's to close."""
        return self._unfinished().open("wb")

    def finish(self, rows: int, bad_rows: int) -> None:
        """Name the part that was written, is on the disk and is closed: from here on it is there for good."""
        path = self._path(len(self.finished))
        self._unfinished().replace(path)
        _write(path.with_suffix(".json"), json.dumps({"rows": rows, "bad_rows": bad_rows}).encode())
        self.finished.append(Part(path, rows, bad_rows))

    def publish(self, written: Format) -> None:
        """Make one answer of the parts and give it its name."""
        whole = self._unfinished()
        if len(self.finished) == 1:
            whole = self.finished[0].path
        elif written.needs_pyarrow:
            from batchproof.service.tables.writers.arrow import join

            join([part.path for part in self.finished], whole, written)
            _sync(whole)
        else:
            with whole.open("wb") as file:
                for part in self.finished:
                    with part.path.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
            _sync(whole)
        if isinstance(self._target, Path):
            whole.replace(self._target)
            sync_folder(self._target.parent)
        else:
            self._target.upload(whole)
        shutil.rmtree(self._folder)

    def _found(self) -> Iterator[Part]:
        number = 0
        while (path := self._path(number)).with_suffix(".json").is_file() and path.is_file():
            note = json.loads(path.with_suffix(".json").read_bytes())
            yield Part(path, note["rows"], note["bad_rows"])
            number += 1

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}{self._target.suffix}"

    def _unfinished(self) -> Path:
        return self._folder / f"unfinished{self._target.suffix}"


def _locked(folder: Path, target: TablePath) -> BinaryIO:
    """Make the folder, and return a file in it that is locked as long as it is open; raises SourceError where it is already.

    Windows has no such lock: there the second run is not noticed.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / LOCK).open("ab")
        except FileNotFoundError:  # another run has just removed the folder
            continue
        try:
            import fcntl
        except ImportError:
            file.close()  # Windows removes no folder with an open file in it
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise SourceError(f"another run is writing {target}: wait for its end, or choose another name") from error
        with suppress(FileNotFoundError):
            if (folder / LOCK).stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()  # that of a folder which is gone


def _folder_of(target: TablePath) -> Path:
    if isinstance(target, Path):
        return target.with_name(target.name + ".parts")
    return cache.folder("answers") / f"{hashlib.sha256(str(target).encode()).hexdigest()[:32]}-{target.name}.parts"


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(".writing")
    unfinished.write_bytes(content)
    _sync(unfinished)
    unfinished.replace(path)


def _sync(path: Path) -> None:
    """Wait until the file is on the disk."""
    with path.open("r+b") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())
