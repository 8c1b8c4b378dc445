"""Tables in an object store: as much of `pathlib.Path` as reading and writing tables needs."""

import re
from fnmatch import translate
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

import pyarrow as pa
from pyarrow import fs

from batchproof.service.configuration.address import OBJECT_SCHEMES, Address
from batchproof.service.stores.objects import opened
from batchproof.service.stores.store import StoreError, is_pattern

READ_BYTES = 8 << 20  # that one request for a stream asks for


class Facts(NamedTuple):
    """What tells one state of an object from another, named as in `os.stat_result`."""

    st_size: int
    st_mtime_ns: int


class ObjectPath:
    """An object, or the folder that the names of objects begin with."""

    def __init__(self, address: Address, files: fs.FileSystem) -> None:
        """Mean `address` in `files`."""
        self.address = address
        self.files = files
        self.path = address.rest
        names = PurePosixPath(self.path)
        self.name, self.stem, self.suffix = names.name, names.stem, names.suffix

    def __str__(self) -> str:
        """Return the address."""
        return str(self.address)

    def __eq__(self, other: object) -> bool:
        """Return whether both mean one object."""
        return isinstance(other, ObjectPath) and self.address == other.address

    def __hash__(self) -> int:
        """Return the hash of the address."""
        return hash(self.address)

    def __truediv__(self, name: str) -> Self:
        """Return the object `name` below this folder."""
        return self._of(f"{self.path}/{name}")

    def resolve(self) -> Self:
        """Return the path: an address has no other forms."""
        return self

    def relative_to(self, folder: Self) -> PurePosixPath:
        """Return what follows the path of `folder`."""
        return PurePosixPath(self.path).relative_to(folder.path)

    def is_dir(self) -> bool:
        """Return whether there are objects below this path."""
        return bool(self._info().type == fs.FileType.Directory)

    def is_file(self) -> bool:
        """Return whether there is an object of this name."""
        return bool(self._info().type == fs.FileType.File)

    def exists(self) -> bool:
        """Return whether there is an object of this name, or below it."""
        return bool(self._info().type != fs.FileType.NotFound)

    def stat(self) -> Facts:
        """Return the size in bytes and the time of the last change."""
        found = self._info()
        return Facts(found.size or 0, found.mtime_ns or 0)

    def open_stream(self) -> pa.NativeFile:
        """Open the object to be read from its beginning to its end, as it is: packed ones are not unpacked."""
        return self.files.open_input_stream(self.path, compression=None, buffer_size=READ_BYTES)

    def open_random(self) -> pa.NativeFile:
        """Open the object to be read at any place."""
        return self.files.open_input_file(self.path)

    def below(self) -> list[Self]:
        """Return the objects below this folder, in the order of their names."""
        found = self.files.get_file_info(fs.FileSelector(self.path, recursive=True, allow_not_found=True))
        names = sorted(PurePosixPath(one.path) for one in found if one.type == fs.FileType.File)
        return [self._of(str(name)) for name in names]

    def matches(self) -> list[Self]:
        """Return the objects whose names this pattern matches: `*`, `?` and `[…]` within a part, `**` any number of parts.

        Not those with a part `..`: as a file, such a one would lie outside the folder that it is copied to.
        """
        parts = PurePosixPath(self.path).parts
        fixed = next((place for place, part in enumerate(parts) if is_pattern(part)), len(parts))
        if fixed == 0:
            raise StoreError(f"{self} has a pattern in the name of its bucket: write that name in full")
        folder = self._of("/".join(parts[:fixed]))
        wanted = parts[fixed:]
        found = ((one, PurePosixPath(one.path).parts[fixed:]) for one in folder.below())
        return [one for one, names in found if ".." not in names and _is_match(names, wanted)]

    def upload(self, content: Path) -> None:
        """Write a file of this machine to the object, which appears whole or not at all."""
        fs.copy_files(str(content), self.path, fs.LocalFileSystem(), self.files, use_threads=False)

    def download(self, target: Path) -> None:
        """Write the object to a file of this machine, whose folders are made; raises FileNotFoundError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        fs.copy_files(self.path, str(target), self.files, fs.LocalFileSystem(), use_threads=False)

    def _info(self) -> fs.FileInfo:
        return self.files.get_file_info(self.path)

    def _of(self, path: str) -> Self:
        return type(self)(Address(self.address.scheme, path), self.files)


def object_path(address: Address) -> ObjectPath:
    """Return the object that an address means; raises StoreError, or ModuleNotFoundError where a package is missing."""
    if address.scheme not in OBJECT_SCHEMES and not address.is_dataset:
        known = ", ".join(f"{scheme}://" for scheme in OBJECT_SCHEMES)
        raise StoreError(f"{address} cannot be a table: the address of a table begins with {known} or hf://datasets/")
    return ObjectPath(address, opened(address))


def _is_match(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_is_match(parts[skipped:], wanted[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and re.match(translate(wanted[0]), parts[0]) is not None and _is_match(parts[1:], wanted[1:])
