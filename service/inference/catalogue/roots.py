"""The bundles of a folder or of an address."""

from pathlib import Path
from typing import TYPE_CHECKING

from batchproof.service.configuration.address import Root
from batchproof.service.errors import BundleError
from batchproof.service.inference.catalogue import repository
from batchproof.service.inference.catalogue.repository import BundleFolder, Refusal
from batchproof.service.inference.catalogue.selection import Selection

if TYPE_CHECKING:
    from batchproof.service.bundle.signing.trust import TrustPolicy


def scan(
    root: Root, selection: Selection | None = None, trust: "TrustPolicy | None" = None
) -> tuple[list[BundleFolder], list[Refusal]]:
    """List the bundles under `root`; those at an address are fetched first, as far as `selection` wants them.

    Raises BundleError where there is no such folder or address, or it cannot be listed.
    """
    if isinstance(root, Path):
        return repository.scan(root)
    from batchproof.service.inference.catalogue import remote

    return remote.scan(root, selection or Selection(), trust)


def newest(root: Root) -> Path:
    """Return the bundle folder meant by `root`; raises BundleError if there is no bundle, or more than one model."""
    folders, refusals = scan(root)
    if not folders:
        raise BundleError(refusals[0].message if refusals else f"{root} holds no bundle: no bundle.json was found")
    names = sorted({folder.name for folder in folders})
    if len(names) > 1:
        raise BundleError(f"{root} holds several models; name one of {', '.join(f'{root}/{name}' for name in names)}")
    if folders[0].fault:
        raise BundleError(folders[0].fault)
    return folders[0].folder
