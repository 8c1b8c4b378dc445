"""Push into an object store, in the layout that `--models` reads: NAME/VERSION below the address."""

import pyarrow as pa

from batchproof.service.configuration.address import Address
from batchproof.service.errors import first_line
from batchproof.service.stores.objects import filesystem
from batchproof.service.stores.publishing.package import ALREADY, Package, is_there
from batchproof.service.stores.store import MANIFEST, StoreError


def push(package: Package, address: Address) -> str:
    """Write the bundle, bundle.json last; returns what was done. Raises StoreError or BundleError.

    What an interrupted push leaves has no bundle.json, so it is no bundle; the same push again completes it. An object
    store has no lock: if two different bundles of one version are pushed at the same moment, readers refuse the mixture.
    """
    target = Address(address.scheme, f"{address.rest}/{package.place}")
    try:
        files = filesystem(address)
        if is_there(package, _manifest(files, target), target):
            return ALREADY.format(address=target)
        for name, content in package.files():
            with files.open_output_stream(f"{target.rest}/{name}") as stream:
                stream.write(content)
        if is_there(package, _manifest(files, target), target):
            return f"wrote {target}"
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"{target} cannot be written: {first_line(error)}") from error
    raise StoreError(f"{target} was written, but bundle.json is not there: the store lost it, or somebody removed it")


def _manifest(files: "pa.fs.FileSystem", target: Address) -> bytes | None:
    """Return the bundle.json that is there, or None."""
    try:
        with files.open_input_stream(f"{target.rest}/{MANIFEST}") as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
