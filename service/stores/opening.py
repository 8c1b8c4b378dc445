"""The store of an address."""

from collections.abc import Iterator
from contextlib import contextmanager

from batchproof.installation import hint
from batchproof.service.configuration.address import Address, Scheme
from batchproof.service.stores.store import Store, StoreError

# scheme -> the extra whose packages it needs
EXTRAS: dict[Scheme, str] = {"s3": "tables", "gs": "tables", "az": "tables", "hf": "hub", "mlflow": "mlflow"}


def open_store(address: Address) -> Store:
    """Return the store of an address; raises StoreError where its package is not installed, or nothing answers."""
    with needing_packages(address):
        return _opened(address)


@contextmanager
def needing_packages(address: Address) -> Iterator[None]:
    """Import what an address needs; raises StoreError with the command that installs it where it is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{address} needs {error.name}, which is not installed: {hint(EXTRAS[address.scheme])}"
        ) from error


def _opened(address: Address) -> Store:
    if address.is_dataset:
        raise StoreError(f"{address} is a file of a data set: a bundle is in a repository of models, hf://OWNER/NAME")
    if address.scheme in ("https", "http"):
        from batchproof.service.stores.web import WebStore

        return WebStore(address)
    if address.scheme == "hf":
        from batchproof.service.stores.hub import HubStore

        return HubStore(address)
    if address.scheme == "mlflow":
        from batchproof.service.stores.mlflow_models import MlflowStore

        return MlflowStore(address)
    from batchproof.service.stores.objects import ObjectStore

    return ObjectStore(address)
