"""Which folders under the models folder may be bundles: finished ones, by name and version, newest first."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from batchproof.service.bundle.reader import unchecked_name
from batchproof.service.errors import BundleError, closest


@dataclass(frozen=True)
class BundleFolder:
    """A folder that holds a bundle.json, and what its path or its address says it is."""

    name: str
    version: int | None  # None: a bundle folder given directly, whose path says nothing
    folder: Path
    fault: str = ""  # why the bundle at an address is not in `folder`


@dataclass(frozen=True)
class Refusal:
    """A bundle that is not served, and the sentence that says why."""

    name: str
    version: int | None
    message: str


def scan(root: Path) -> tuple[list[BundleFolder], list[Refusal]]:
    """List the bundles under `root`: a folder of models, the folder of one model, or one bundle.

    The name of `root` means nothing, since platforms mount a model's folder under a name of theirs: if it holds
    versions or a bundle, bundle.json names the model. `root` itself may be a link, nothing below it. Hidden folders and
    those without a bundle.json (still being copied) are passed over. Raises BundleError where `root` is no folder, or
    cannot be listed.
    """
    _check(root)
    root = Path(os.path.realpath(root))
    if _holds_bundle(root):
        return [BundleFolder(root.name, None, root)], []
    children = _folders(root)
    if any(name.isdecimal() and _holds_bundle(child) for name, child in children):
        return _versions(root, _name_of_versions(root))
    folders: list[BundleFolder] = []
    refusals: list[Refusal] = []
    for name, child in children:
        if child.is_symlink():
            refusals.append(Refusal(name, None, f"{child} is a link; links are not followed"))
            continue
        try:
            versions, refused = _versions(child, name)
        except BundleError as error:  # one folder that cannot be listed keeps no other model from being served
            refusals.append(Refusal(name, None, str(error)))
        else:
            folders += versions
            refusals += refused
    return folders, refusals


def _check(root: Path) -> None:
    """Raise BundleError where there is no such folder: it names the first part that is missing, and what is there."""
    if root.is_file():
        raise BundleError(f"{root} is a file; a model or a bundle is a folder")
    absent = next((path for path in (*reversed(root.parents), root) if not path.exists()), None)
    if absent is None:
        return
    names = [name for name, _ in _folders(absent.parent)]
    versions = [name for name in names if name.isdecimal()] if absent.name.isdecimal() else []
    near = closest(absent.name, names)
    there = f"; the versions there: {', '.join(sorted(versions, key=int))}" if versions else ""
    there = f"; the nearest name there is {near!r}" if near and not versions else there
    raise BundleError(f"there is no model or bundle {absent}{there}")


def _name_of_versions(model: Path) -> str:
    """Return the name that the newest version with a valid one gives the model, else that of the folder."""
    numbered = [(version, folder) for name, folder in _folders(model) if (version := version_of(name)) is not None]
    names = (unchecked_name(folder) for _, folder in sorted(numbered, reverse=True) if _holds_bundle(folder))
    return next((name for name in names if name is not None), model.name)


def _versions(model: Path, name: str) -> tuple[list[BundleFolder], list[Refusal]]:
    folders, refusals = [], []
    for number, folder in _folders(model):
        if not _holds_bundle(folder):
            continue
        version = version_of(number)
        if version is not None:
            folders.append(BundleFolder(name, version, folder))
        else:
            refusals.append(Refusal(name, None, f"{folder}: a version is a positive whole number such as 1"))
    return sorted(folders, key=lambda folder: -(folder.version or 0)), refusals


def version_of(name: str) -> int | None:
    """Return the version that a folder's name says, or None."""
    is_version = name.isascii() and name.isdecimal() and not name.startswith("0") and len(name) <= 18
    return int(name) if is_version else None


def _holds_bundle(folder: Path) -> bool:
    """Return whether there is a bundle.json; a folder that this process may not enter has none."""
    return os.path.exists(folder / "bundle.json")  # noqa: PTH110 - pathlib's raises where the folder may not be entered


def _folders(parent: Path) -> list[tuple[str, Path]]:
    """Return (name, path) of the folders in `parent`, links to folders included, hidden ones not."""
    try:
        with os.scandir(parent) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise BundleError(f"{parent} cannot be listed: {error.strerror}") from error
    return [(name, parent / name) for name in names]


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Have refusals of the bundle in `folder` say which one it is, where they do not yet."""
    try:
        yield
    except BundleError as error:
        if str(folder) in str(error):
            raise
        raise BundleError(f"{folder}: {error}") from error
