"""Bundles in an object store: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.

Credentials, region and endpoint come from where each store's own tools take them: environment, profile, instance.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from batchproof.service.configuration.address import Address
from batchproof.service.errors import first_line
from batchproof.service.stores.hub import endpoint_of, token_of
from batchproof.service.stores.store import MANIFEST, MissingError, StoreError, too_long

CONNECT_S, REQUEST_S = 10, 60
CHUNK_BYTES = 1 << 20


class ObjectStore:
    """The objects below an address."""

    def __init__(self, address: Address) -> None:
        """Open the store; raises StoreError."""
        self._address = address
        self._files = opened(address)

    def folders(self) -> Sequence[str]:
        """Return the folders below the address that hold a bundle.json; hidden ones do not count."""
        selector = fs.FileSelector(self._address.rest, recursive=True)
        try:
            files = self._files.get_file_info(selector)
        except FileNotFoundError as error:
            raise StoreError(f"there is nothing at {self._address}") from error
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{self._address} cannot be listed: {first_line(error)}") from error
        names = [file.path.removeprefix(self._address.rest).lstrip("/") for file in files if file.base_name == MANIFEST]
        return sorted(name.removesuffix(MANIFEST).rstrip("/") for name in names if not _is_hidden(name))

    def fetch(self, folder: str, name: str, target: Path, max_bytes: int) -> None:
        """Write an object to `target`; raises StoreError."""
        path = "/".join(part for part in (self._address.rest, folder, name) if part)
        try:
            with self._files.open_input_stream(path) as stream, target.open("wb") as file:
                while chunk := stream.read(CHUNK_BYTES):
                    file.write(chunk)
                    if file.tell() > max_bytes:
                        raise too_long(name, max_bytes)
        except FileNotFoundError as error:
            raise MissingError(f"{name} is missing from {self._address.scheme}://{path}") from error
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{self._address.scheme}://{path} cannot be read: {first_line(error)}") from error


def opened(address: Address) -> fs.FileSystem:
    """Return Arrow's file system for an address; raises StoreError."""
    try:
        return filesystem(address)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"{address} cannot be opened: {first_line(error)}") from error


def filesystem(address: Address, environment: Mapping[str, str] = os.environ) -> fs.FileSystem:
    """Return Arrow's file system for an address; raises ArrowException, OSError or ValueError.

    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL names another server that speaks S3, such as MinIO; AZURE_STORAGE_ACCOUNT the
    account of an Azure container; HF_ENDPOINT and HF_TOKEN are those of the hub. The rest, credentials too, is found by the
    stores' own libraries.
    """
    if address.scheme == "hf":
        from huggingface_hub import HfFileSystem

        files = HfFileSystem(endpoint=endpoint_of(environment), token=token_of(environment))
        return fs.PyFileSystem(fs.FSSpecHandler(files))
    if address.scheme == "gs":
        return fs.GcsFileSystem()
    if address.scheme == "az":
        account = environment.get("AZURE_STORAGE_ACCOUNT")
        if not account:
            raise ValueError("the environment variable AZURE_STORAGE_ACCOUNT names no storage account")
        return fs.AzureFileSystem(account)
    options: dict[str, object] = {}
    if endpoint := environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"):
        options["scheme"], _, options["endpoint_override"] = endpoint.rstrip("/").rpartition("://")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if region is None and not endpoint:
        region = fs.resolve_s3_region(address.rest.partition("/")[0])
    return fs.S3FileSystem(region=region, connect_timeout=CONNECT_S, request_timeout=REQUEST_S, **options)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
