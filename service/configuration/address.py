"""Where bundles are: a folder of this machine, or an address such as s3://bucket/models."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args
from urllib.parse import urlsplit

from batchproof.service.errors import nearest, printable

Scheme = Literal["s3", "gs", "az", "https", "http", "hf", "mlflow"]

EXAMPLES: dict[Scheme, str] = {
    "s3": "s3://BUCKET/FOLDER",
    "gs": "gs://BUCKET/FOLDER",
    "az": "az://CONTAINER/FOLDER",
    "https": "https://HOST/FOLDER",
    "http": "http://localhost/FOLDER",
    "hf": "hf://OWNER/NAME or hf://OWNER/NAME@REVISION, and for a table hf://datasets/OWNER/NAME/FILE",
    "mlflow": "mlflow:models:/NAME@ALIAS or mlflow:models:/NAME/VERSION",
}
PATTERNS: dict[Scheme, str] = {
    "s3": r"[^/]+(/.*)?",
    "gs": r"[^/]+(/.*)?",
    "az": r"[^/]+(/.*)?",
    "https": r"[^/?#]+(/[^?#]*)?",
    "http": r"[^/?#]+(/[^?#]*)?",
    "hf": r"[\w.-]+/[\w.-]+(@[^@]+)?|datasets/[\w.-]+/[\w.-]+(@[^@/]+)?/[^@]+",
    "mlflow": r"models:/[^/@]+(@[^/@]+|/[1-9][0-9]*)",
}
BEGINNING = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(mlflow):")
OBJECT_SCHEMES: tuple[Scheme, ...] = ("s3", "gs", "az")  # of stores that are also written to
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class AddressError(ValueError):
    """A text that is meant as an address and is none. The text is a sentence without its full stop."""


@dataclass(frozen=True)
class Address:
    """An address of one bundle, of one model's versions, or of several models."""

    scheme: Scheme
    rest: str  # what follows the scheme, without a slash at its end

    def __str__(self) -> str:
        """Return the address as it is written."""
        return f"{self.scheme}:{self.rest}" if self.scheme == "mlflow" else f"{self.scheme}://{self.rest}"

    @property
    def is_dataset(self) -> bool:
        """Whether it is a table in a data set of the Hugging Face Hub."""
        return self.scheme == "hf" and self.rest.startswith("datasets/") and self.rest.count("/") > 1

    @property
    def name(self) -> str:
        """Return its last part, the name of the model where the address is a model's."""
        return self.rest.rpartition("/")[2]


Root: TypeAlias = Path | Address


def root_of(text: str | os.PathLike[str]) -> Root:
    """Return the folder or the address that a text means; raises AddressError for another address, and for no text."""
    if not isinstance(text, str):
        return Path(text)
    if not text:
        raise AddressError("a path is empty: is a variable without a value in it?")
    begins = BEGINNING.match(text)
    if begins is None:
        return Path(text)
    scheme, rest = (begins[1] or begins[2]).lower(), text[begins.end() :].rstrip("/")
    if scheme not in get_args(Scheme):
        near = nearest(scheme, list(EXAMPLES), "{}://".format)
        raise AddressError(f"{printable(scheme)}:// is not supported.{near} Addresses begin with {', '.join(EXAMPLES)}")
    return _checked(Address(cast(Scheme, scheme), rest))


def _checked(address: Address) -> Address:
    if re.fullmatch(PATTERNS[address.scheme], address.rest) is None or not address.rest.isprintable():
        raise AddressError(f"{printable(str(address))} is not an address: write {EXAMPLES[address.scheme]}")
    if "@" in address.rest.partition("/")[0]:
        # It would stand in logs and on pages.
        raise AddressError(
            f"an address holds no user and no password: remove what stands before @ in {address.scheme}://…"
        )
    if address.scheme == "http" and urlsplit(str(address)).hostname not in LOOPBACK:
        raise AddressError(f"{address}: use https; http is for this machine only")
    return address
