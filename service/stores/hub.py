"""Bundles in a repository of the Hugging Face Hub, or of another server that HF_ENDPOINT names.

Two of the hub's HTTP routes are enough, so its own client and what that brings are not needed. A private repository needs
a token: HF_TOKEN, or the file that `hf auth login` writes.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, urlsplit

import msgspec

from batchproof.service.configuration.address import LOOPBACK, Address
from batchproof.service.stores.store import MANIFEST, MissingError, StoreError
from batchproof.service.stores.web import download

ENDPOINT = "https://huggingface.co"
LISTING_BYTES = 16 << 20


class File(msgspec.Struct):
    """A file of a repository, as the hub lists it."""

    rfilename: str


class Revision(msgspec.Struct):
    """What a branch, a tag or a commit is."""

    sha: str
    siblings: list[File] = []


class HubStore:
    """The files of one commit: what a branch points to may change while they are read."""

    def __init__(self, address: Address, environment: Mapping[str, str] = os.environ) -> None:
        """Find the commit that the address means; raises StoreError."""
        self._address = address
        self._repository, _, revision = address.rest.partition("@")
        self._endpoint = endpoint_of(environment)
        token = token_of(environment)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        found = self._revision(f"/revision/{quote(revision, safe='')}" if revision else "")
        self._commit = found.sha
        self._names = [file.rfilename for file in found.siblings]

    def _revision(self, path: str) -> Revision:
        url = f"{self._endpoint}/api/models/{self._repository}{path}"
        with TemporaryDirectory() as folder:
            answer = Path(folder, "answer")
            download(url, answer, LISTING_BYTES, self._headers)
            try:
                return msgspec.json.decode(answer.read_bytes(), type=Revision)
            except msgspec.DecodeError as error:
                raise StoreError(f"{url} did not return a valid Hub response: {error}") from error

    def folders(self) -> Sequence[str]:
        """Return the folders of the repository that hold a bundle.json; hidden ones do not count."""
        names = [name for name in self._names if name.rpartition("/")[2] == MANIFEST]
        shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        return sorted(name.removesuffix(MANIFEST).rstrip("/") for name in shown)

    def fetch(self, folder: str, name: str, target: Path, max_bytes: int) -> None:
        """Write a file to `target`; raises StoreError."""
        path = f"{folder}/{name}" if folder else name
        if path not in self._names:
            raise MissingError(f"{path} is missing from {self._address}")
        download(
            f"{self._endpoint}/{self._repository}/resolve/{self._commit}/{quote(path)}",
            target,
            max_bytes,
            self._headers,
        )


def endpoint_of(environment: Mapping[str, str]) -> str:
    """Return the server of the hub, without a slash at its end; raises StoreError for one that is not encrypted."""
    endpoint = (environment.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise StoreError(f"HF_ENDPOINT is {endpoint}: use https; http is for this machine only")
    return endpoint


def token_of(environment: Mapping[str, str]) -> str:
    """Return the token of the hub, or nothing."""
    if token := environment.get("HF_TOKEN"):
        return token.strip()
    home = Path(environment.get("HF_HOME") or "~/.cache/huggingface")
    try:
        return Path(environment.get("HF_TOKEN_PATH") or home / "token").expanduser().read_text().strip()
    except OSError:
        return ""
