"""Push into a folder of models on this machine, or on a disk that it mounts."""

import os
from pathlib import Path

from batchproof.service.errors import reason
from batchproof.service.stores.cache import unfinished
from batchproof.service.stores.publishing.package import ALREADY, Package, is_there
from batchproof.service.stores.store import MANIFEST, StoreError


def push(package: Package, models: Path) -> str:
    """Write NAME/VERSION below `models`, whole or not at all; returns what was done. Raises StoreError or BundleError."""
    target = models / package.place
    try:
        found = (target / MANIFEST).read_bytes() if (target / MANIFEST).exists() else None
        if is_there(package, found, target):
            return ALREADY.format(address=target)
        if target.exists():
            raise StoreError(f"{target} exists and holds no bundle.json: remove it first")
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(target.parent) as part:
            part.chmod(0o755)  # as other folders of the models are
            for name, content in package.files():
                _write(part / name, content)
            part.rename(target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {reason(error)}") from error
    return f"wrote {target}"


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
