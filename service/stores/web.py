"""One bundle on a web server: its files are beside its bundle.json. A web server lists no folders."""

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

from batchproof.service.configuration.address import LOOPBACK, Address
from batchproof.service.errors import printable, reason
from batchproof.service.stores.store import MissingError, StoreError, too_long

WAIT_S = 30.0  # for the next bytes
CHUNK_BYTES = 1 << 20


class WebStore:
    """A folder of a web server, over TLS with a certificate that the system trusts."""

    def __init__(self, address: Address) -> None:
        """Read below `address`."""
        self._address = address

    def folders(self) -> Sequence[str]:
        """Return the address itself."""
        return [""]

    def fetch(self, folder: str, name: str, target: Path, max_bytes: int) -> None:
        """Write a file to `target`; raises StoreError."""
        del folder  # the address itself
        download(f"{self._address}/{quote(name)}", target, max_bytes)


def download(url: str, target: Path, max_bytes: int, headers: Mapping[str, str] | None = None) -> None:
    """Write what `url` is answered with to `target`; raises StoreError, MissingError for 404."""
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 - an address has a scheme of the web
    handlers = (urllib.request.HTTPSHandler(context=ssl.create_default_context()), _SafeRedirects())
    try:
        with (
            urllib.request.build_opener(*handlers).open(request, timeout=WAIT_S) as answer,
            target.open("wb") as file,
        ):
            size = answer.headers.get("Content-Length")
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                if file.tell() > max_bytes:
                    raise too_long(url.rpartition("/")[2], max_bytes)
            if size is not None and int(size) != file.tell():
                raise StoreError(f"{url} ended after {file.tell()} of {size} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        kind = MissingError if error.code in (404, 410) else StoreError
        raise kind(f"{url} was answered with {error.code} {printable(error.reason)[:200]}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StoreError(f"{url} cannot be read: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """Return what an error of the network says, without its wrapping."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, OSError):
        return reason(inner)
    return reason(error)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https only, or from this machine to itself, and takes no token to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request; raises StoreError for one that is not encrypted."""
        parts, asked = urlsplit(newurl), urlsplit(req.full_url)
        is_local = parts.scheme == "http" and parts.hostname in LOOPBACK and asked.hostname in LOOPBACK
        if parts.scheme != "https" and not is_local:
            fp.close()
            raise StoreError(f"{req.full_url} redirects to {parts.scheme}://, which is not https")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and parts.netloc != asked.netloc:
            following.remove_header("Authorization")
        return following
