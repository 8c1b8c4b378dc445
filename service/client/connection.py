"""Where a service is and how a client proves who it is: the address, the API key and the TLS settings of both clients."""

import os
import ssl
import sys
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

KEY_VARIABLE = "BATCHPROOF_CLIENT_API_KEY"

ClientCertificate = str | tuple[str, str] | tuple[str, str, str]  # file, or file and key, or those and a password


def checked_url(url: str) -> SplitResult:
    """Return the parts of an address; raises ValueError unless it is an http or https URL."""
    split = urlsplit(url)
    if split.scheme not in ("http", "https") or not split.hostname:
        raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8000")
    return split


def request_headers(
    headers: Mapping[str, str] | None, api_key: str | None, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the headers of every request; raises ValueError for a key that no header can hold, or two of them.

    The key is `api_key`, otherwise the environment variable BATCHPROOF_CLIENT_API_KEY, otherwise there is none. An
    `authorization` in `headers` is sent unchanged, and the environment variable is ignored.
    """
    given = dict(headers or {})
    has_own = any(name.lower() == "authorization" for name in given)
    if has_own and api_key is not None:
        raise ValueError("api_key and a header authorization are both given; keep one of them")
    key = api_key if api_key is not None else environment.get(KEY_VARIABLE, "").strip()
    if has_own or not (key or api_key is not None):
        return given
    if not key or not all("!" <= character <= "~" for character in key):  # the key itself is not repeated
        raise ValueError("an API key is one or more visible ASCII characters without a space")
    return given | {"authorization": f"Bearer {key}"}


def with_trace(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with those that join a request to the caller's open span, unless they name a trace themselves.

    The propagators of the caller's program write them, W3C's `traceparent` by default. In a program that does not use
    OpenTelemetry nothing is added, and nothing is imported.
    """
    if "opentelemetry.trace" not in sys.modules or any(name.lower() == "traceparent" for name in headers):
        return dict(headers)
    from opentelemetry import propagate

    found: dict[str, str] = {}
    propagate.inject(found)
    return {**found, **headers}


def tls_context(
    url: SplitResult,
    verify: bool,  # noqa: FBT001 - as both clients have it
    cafile: str | None,
    client_cert: ClientCertificate | None,
) -> ssl.SSLContext | None:
    """Return the TLS settings of an https address, None for an http one.

    Raises ValueError for settings that have no effect, and OSError for files that cannot be read.
    """
    if url.scheme == "http":
        if not verify or cafile is not None or client_cert is not None:
            raise ValueError(f"verify, cafile and client_cert are for https, and the address is {url.geturl()}")
        return None
    if not verify and cafile is not None:
        raise ValueError("cafile names the authorities to trust, but verify=False trusts everybody; keep one of them")
    context = ssl.create_default_context(cafile=cafile)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_cert is not None:
        chain = (client_cert,) if isinstance(client_cert, str) else client_cert
        context.load_cert_chain(*chain)
    return context
