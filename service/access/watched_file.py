"""A file that is read again when it changes, once it has stopped changing."""

from pathlib import Path

Stamp = tuple[int, int, int] | None


class WatchedFile:
    """Says when to read a file again.

    An editor may write a file in place, and an entry that is half written may say more than the whole one: models come
    after scopes. So a change counts at the second look at which the file is the same.
    """

    def __init__(self, path: Path) -> None:
        """Remember the file as it is; the caller reads it after this."""
        self._path = path
        self._read = self._seen = self._stamp()

    def is_due(self, *, at_once: bool = False) -> bool:
        """Return whether it is time to read it: once for each change, and `at_once` whether it changed or not."""
        stamp = self._stamp()
        is_due = at_once or (stamp == self._seen and stamp != self._read)
        self._seen = stamp
        if is_due:
            self._read = stamp
        return is_due

    def _stamp(self) -> Stamp:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
