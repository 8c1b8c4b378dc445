"""A checked bundle, file by file, as it is pushed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchproof.service.bundle import reader
from batchproof.service.bundle.files.safe_folder import opened
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.reader import Limits
from batchproof.service.bundle.signing import SIGNATURE_BYTES, SIGNATURE_FILE
from batchproof.service.errors import BundleError
from batchproof.service.stores.store import MANIFEST, StoreError

ALREADY = "{address} has this bundle already"
TAKEN = (
    "{address} is taken by another bundle of {name} {version} (sha256 {seal}…): versions are never overwritten; write a new "
    "version with batchproof-train --version"
)


@dataclass(frozen=True)
class Package:
    """A bundle that was read and checked; its files are read again, and compared, when they are sent."""

    folder: Path
    manifest: Manifest
    raw: bytes  # bundle.json

    @property
    def place(self) -> str:
        """Where a folder of models has it: NAME/VERSION."""
        return f"{self.manifest.name}/{self.manifest.version}"

    def files(self, limits: Limits | None = None) -> Iterator[tuple[str, bytes]]:
        """Give each file, bundle.json last, so that a reader sees a bundle only when it is complete; raises BundleError."""
        limits = limits or Limits()
        with opened(self.folder) as folder:
            for name, entry in self.manifest.files.items():
                content = folder.read(name, limits.other_bytes)
                if hashlib.sha256(content).hexdigest() != entry.sha256:
                    raise BundleError(f"{name} changed while the bundle was pushed")
                yield name, content
            if SIGNATURE_FILE in folder.names():
                yield SIGNATURE_FILE, folder.read(SIGNATURE_FILE, SIGNATURE_BYTES)
        yield MANIFEST, self.raw


def package(folder: Path) -> Package:
    """Read and check a bundle; raises BundleError."""
    bundle = reader.read(folder)
    return Package(folder, bundle.manifest, reader.file(bundle, MANIFEST))


def is_there(package: Package, found: bytes | None, address: object) -> bool:
    """Return whether `found`, the bundle.json at an address, is the package's; raises StoreError where it is another's."""
    if found is None or found == package.raw:
        return found is not None
    try:
        seal = reader.parse_manifest(found).sha256[:16]
    except BundleError:
        seal = "not readable"
    manifest = package.manifest
    raise StoreError(TAKEN.format(address=address, name=manifest.name, version=manifest.version, seal=seal))
