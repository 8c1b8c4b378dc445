"""Bundles in MLflow's registry of models, where MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI names it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from batchproof.service.configuration.address import Address
from batchproof.service.errors import first_line
from batchproof.service.stores.store import MissingError, StoreError, too_long

FOLDER = "bundle"  # where batchproof.mlflow puts a bundle in what it logs


class MlflowStore:
    """The bundle of one registered version: an alias may move while it is read."""

    def __init__(self, address: Address) -> None:
        """Find the version that the address means; raises StoreError."""
        self._address = address
        name, _, alias = address.rest.removeprefix("models:/").partition("@")
        try:
            version = MlflowClient().get_model_version_by_alias(name, alias).version if alias else ""
        except (MlflowException, OSError) as error:
            raise StoreError(f"{address} cannot be read: {first_line(error)}") from error
        self._uri = f"models:/{name}/{version}" if alias else f"models:/{name}"

    def folders(self) -> Sequence[str]:
        """Return the folder of the bundle in the registered model."""
        return [FOLDER]

    def fetch(self, folder: str, name: str, target: Path, max_bytes: int) -> None:
        """Write a file to `target`; raises StoreError."""
        try:
            with TemporaryDirectory(dir=target.parent, prefix=".") as own:
                path = Path(download_artifacts(artifact_uri=f"{self._uri}/{folder}/{name}", dst_path=own))
                if path.stat().st_size > max_bytes:
                    raise too_long(name, max_bytes)
                shutil.move(path, target)
        except (MlflowException, OSError) as error:  # its kinds differ between the stores behind MLflow
            raise MissingError(f"{name} of {self._address} cannot be read: {first_line(error)}") from error
