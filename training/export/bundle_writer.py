"""Write a bundle folder atomically: a hidden temporary folder is synced to disk, checked, and renamed."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from batchproof.service.bundle import reader as bundle
from batchproof.service.bundle.files.checksum import seal
from batchproof.service.bundle.manifest import (
    DECISION_VERSION,
    FORMAT,
    FORMAT_VERSION,
    QUANTILE_VERSION,
    TARGETS_VERSION,
)
from batchproof.service.errors import BundleError, EngineError
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import load
from batchproof.service.runtime.system import sync_folder

TEMPORARY = ".tmp-"
STALE_S = 3600.0  # a temporary folder this old was left by a killed run


class WriteError(Exception):
    """The bundle was not written; the message says why, and the folder is unchanged."""


def next_version(models: Path, name: str) -> int:
    """Return one more than the newest version of the model `name`."""
    folder = models / name
    versions = [int(child.name) for child in folder.iterdir() if child.name.isdecimal()] if folder.is_dir() else []
    return max(versions, default=0) + 1


def check_writable(folder: Path) -> None:
    """Raise WriteError where `folder` cannot be created and written to; leaves nothing behind."""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryDirectory(dir=existing, prefix=TEMPORARY).cleanup()
    except OSError as error:
        reason = "is a file, not a folder" if existing.is_file() else f"cannot be written to: {error.strerror}"
        start = "" if existing == folder else f"{folder} cannot be created: "
        raise WriteError(f"{start}{existing} {reason}.") from error


def write(models: Path, content: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """Write models/<name>/<version>/ with `files` and bundle.json, and return it.

    `content` is bundle.json without format, file list and checksum. Before the folder gets its name, the service's own
    reader reads it back and must reproduce its golden outputs. A run that is killed never leaves a partial bundle.
    """
    target = models / str(content["name"]) / str(content["version"])
    entries = {name: {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)} for name, raw in files.items()}
    manifest = {"format": FORMAT, "format_version": _format_version(content), **content, "files": entries}
    with _temporary(target) as folder:
        for name, raw in {**files, "bundle.json": seal(manifest)}.items():
            _write_file(folder / name, raw)
        _check(folder)
        sync_folder(folder)
        _rename(folder, target)
        sync_folder(target.parent)
    return target


def _format_version(content: Mapping[str, Any]) -> int:
    """Return the least version whose readers know every field of the content."""
    if "targets" in content["signature"]:
        return TARGETS_VERSION
    if content.get("quantiles") is not None:
        return QUANTILE_VERSION
    return FORMAT_VERSION if content.get("decision") is None else DECISION_VERSION


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent)
        folder = target.parent / f"{TEMPORARY}{uuid4().hex}"
        folder.mkdir()
    except OSError as error:
        raise WriteError(f"{target} cannot be written: {error.strerror}.") from error
    try:
        yield folder
    except OSError as error:
        raise WriteError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # no longer there if it was renamed


def _check(folder: Path) -> None:
    try:
        load(bundle.read(folder), EngineOptions(device="cpu"), run_rows=1024)
    except (BundleError, EngineError) as error:
        raise WriteError(f"the finished bundle does not pass the service's own check: {error}.") from error


def _rename(folder: Path, target: Path) -> None:
    if target.exists():
        raise WriteError(f"{target} exists already: bundles are never overwritten; run without --version.")
    folder.rename(target)


def _write_file(path: Path, raw: bytes) -> None:
    with path.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _remove_stale(parent: Path) -> None:
    for folder in parent.glob(f"{TEMPORARY}*"):
        if time.time() - folder.stat().st_mtime > STALE_S:
            shutil.rmtree(folder, ignore_errors=True)
