"""Bundles in MLflow's registry of models, where MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI names it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.exceptions import MlflowException

from batchproof.service.configuration.address import Address
from batchproof.service.errors import first_line
from batchproof.service.stores.store import MANIFEST, MissingError, StoreError, too_long

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
        self._uri = f"models:/{name}/{version}/{FOLDER}" if alias else f"models:/{name}/{FOLDER}"
        try:
            files = list_artifacts(artifact_uri=self._uri)
        except (MlflowException, OSError) as error:
            raise StoreError(f"{address} cannot be listed: {first_line(error)}") from error
        self._sizes = {Path(file.path).name: file.file_size for file in files if not file.is_dir}

    def folders(self) -> Sequence[str]:
        """Return the folder of the bundle, where the registered model has one."""
        return [FOLDER] if MANIFEST in self._sizes else []

    def fetch(self, folder: str, name: str, target: Path, max_bytes: int) -> None:
        """Write a file to `target`; raises StoreError."""
        del folder  # the only one
        if name not in self._sizes:
            raise MissingError(f"{name} is missing from {self._address}")
        if (self._sizes[name] or 0) > max_bytes:
            raise too_long(name, max_bytes)
        try:
            with TemporaryDirectory(dir=target.parent, prefix=".") as own:
                shutil.move(download_artifacts(artifact_uri=f"{self._uri}/{name}", dst_path=own), target)
        except (MlflowException, OSError) as error:
            raise StoreError(f"{name} of {self._address} cannot be read: {first_line(error)}") from error
