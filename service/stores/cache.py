"""The folder of fetched bundles, each under its seal: what has a name there is whole, and never fetched again."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchproof.service.bundle import reader
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.reader import Limits
from batchproof.service.bundle.signing import SIGNATURE_BYTES, SIGNATURE_FILE
from batchproof.service.errors import BundleError
from batchproof.service.stores.store import MANIFEST, MissingError, Store, StoreError

PART = ".part-"  # how the names of unfinished folders begin
ABANDONED_S = 24 * 3600.0


def folder(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return a folder of the cache: $XDG_CACHE_HOME/batchproof/<name>, ~/.cache/batchproof/<name> without it."""
    base = environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base, "batchproof", name)


@dataclass(frozen=True)
class Fetched:
    """A bundle in the cache, or in an unfinished folder of it that only waits for its name."""

    folder: Path
    name: str  # its name in the cache
    is_new: bool
    bytes: int = 0  # that were fetched


def fetch(
    store: Store, folder: str, cache: Path, part: Path, refused: Mapping[str, str], limits: Limits | None = None
) -> Fetched:
    """Fetch a bundle into the new folder `part` unless the cache has it; raises StoreError or BundleError.

    bundle.json comes first: its seal says which bundle it is. A signature belongs to the name too, since a bundle can be
    signed anew. `refused` {name in the cache: why} is not fetched again. Nothing of a new bundle but bundle.json has been
    checked when this returns: `keep` comes after the check.
    """
    limits = limits or Limits()
    part.mkdir()
    store.fetch(folder, MANIFEST, part / MANIFEST, limits.json_bytes)
    raw = (part / MANIFEST).read_bytes()
    manifest = reader.parse_manifest(raw)
    reader.check_listed(manifest)
    name = _name(manifest, _signature(store, folder, part))
    if name in refused:
        raise BundleError(refused[name])
    kept = cache / name
    if _is_same(kept, raw, manifest):
        return Fetched(kept, name, is_new=False)
    for file, entry in manifest.files.items():
        store.fetch(folder, file, part / file, min(entry.bytes, limits.other_bytes))
    return Fetched(part, name, is_new=True, bytes=sum(file.stat().st_size for file in part.iterdir()))


def keep(cache: Path, fetched: Fetched) -> Path:
    """Give a checked bundle its name; returns its folder. Another process may have been faster with the same one."""
    target = cache / fetched.name
    discard(target)  # of another process, or damaged: it is replaced by what was checked now
    with contextlib.suppress(OSError):
        fetched.folder.rename(target)
    return target


def discard(kept: Path) -> None:
    """Take a bundle out of the cache, at once for all processes."""
    with contextlib.suppress(OSError), new_part(kept.parent) as part:
        kept.rename(part / kept.name)


@contextmanager
def new_part(cache: Path) -> Iterator[Path]:
    """Make an unfinished folder in the cache, and remove it at the end with what is left in it; raises StoreError."""
    with contextlib.ExitStack() as stack:
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = stack.enter_context(unfinished(cache))
        except OSError as error:
            raise StoreError(
                f"the cache {cache} cannot be written ({error.strerror}): set XDG_CACHE_HOME to a folder that can"
            ) from error
        yield part


@contextmanager
def unfinished(parent: Path) -> Iterator[Path]:
    """Make an unfinished folder in `parent`, and remove it at the end with what is left in it; raises OSError."""
    part = Path(tempfile.mkdtemp(prefix=PART, dir=parent))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def stamp_of(kept: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes with any file of a bundle: names, lengths and times."""
    with os.scandir(kept) as files:
        return tuple(sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


def clear_parts(cache: Path) -> None:
    """Remove what processes that ended have left unfinished."""
    now_s = time.time()
    for part in cache.glob(f"{PART}*"):
        with contextlib.suppress(OSError):
            if now_s - part.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(part, ignore_errors=True)


def _signature(store: Store, folder: str, part: Path) -> bytes:
    """Fetch model.sig where there is one; return it, or nothing."""
    try:
        store.fetch(folder, SIGNATURE_FILE, part / SIGNATURE_FILE, SIGNATURE_BYTES)
    except MissingError:
        (part / SIGNATURE_FILE).unlink(missing_ok=True)
        return b""
    return (part / SIGNATURE_FILE).read_bytes()


def _name(manifest: Manifest, signature: bytes) -> str:
    return f"{manifest.sha256}-{hashlib.sha256(signature).hexdigest()[:16]}" if signature else manifest.sha256


def _is_same(kept: Path, raw: bytes, manifest: Manifest) -> bool:
    """Return whether the cache has this bundle: the same bundle.json, and every file in its length."""
    try:
        if (kept / MANIFEST).read_bytes() != raw:
            return False
        return all((kept / file).stat().st_size == entry.bytes for file, entry in manifest.files.items())
    except OSError:
        return False
