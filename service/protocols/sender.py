"""Who sent a request: the other end of its connection, and what a trusted proxy says of the caller behind it.

Anybody can send X-Forwarded-For and its like, so they count only on connections from the addresses of `trusted_proxies`,
and they are read only by what needs them: links, the access log, and the check of host names. Of a list that several
proxies wrote, the last value is the one that the nearest proxy vouches for.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from batchproof.service.access.patterns import CertifiedName

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]  # names in lower case
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
HOST = re.compile(r"(?:\[([0-9a-f:.%]+)\]|([^:\[\]/@\\\"'<>\s]+))(?::[0-9]{0,5})?")
PREFIX = re.compile(r"(?:/[A-Za-z0-9._~!$&()*+,;=:@%-]+)+")
ELEMENT = re.compile(r"\s*([A-Za-z]+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^;,\s]*)\s*")
MOST_HOPS = 20
MOST_BYTES = 2048  # of one header, from its end


class Forwarded(NamedTuple):
    """What the proxies in front say; what they do not say, or say in a form that is not valid, is empty."""

    client: str = ""  # address of the caller behind them
    scheme: str = ""  # http or https
    host: str = ""  # host, or host:port, in lower case
    prefix: str = ""  # path that they took off, such as /ml


NOTHING_FORWARDED = Forwarded()


class Proxies:
    """The addresses whose forwarded headers count."""

    def __init__(self, networks: Sequence[str]) -> None:
        """Trust addresses and networks such as 10.0.0.0/8; raises ValueError."""
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in networks)

    def trusts(self, address: str) -> bool:
        """Return whether the other end of a connection is one of them."""
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed in network for network in self._networks)

    def read(self, headers: Headers) -> Forwarded:
        """Return what the headers of a request say that came from one of them.

        `Forwarded` counts only where there is no X-Forwarded header: a proxy that writes these passes the other on unread.
        """
        values: dict[bytes, list[str]] = {}
        for name, value in headers:
            if name.startswith(b"x-forwarded-") or name == b"forwarded":
                values.setdefault(name, []).extend(_split(value[-MOST_BYTES:].decode("latin-1")))
        standard = values.pop(b"forwarded", [])
        if not values:
            elements = [_element(text) for text in standard]
            values = {
                b"x-forwarded-" + field: [element[field.decode()] for element in elements if field.decode() in element]
                for field in (b"for", b"proto", b"host")
            }
        last = {name.removeprefix(b"x-forwarded-"): texts[-1] for name, texts in values.items() if texts}
        scheme, host, prefix = (last.get(field, "") for field in (b"proto", b"host", b"prefix"))
        return Forwarded(
            self._client(values.get(b"x-forwarded-for", [])),
            scheme.lower() if scheme.lower() in ("http", "https") else "",
            host.lower() if HOST.fullmatch(host.lower()) else "",
            prefix.rstrip("/") if PREFIX.fullmatch(prefix.rstrip("/")) else "",
        )

    def _client(self, hops: Sequence[str]) -> str:
        """Return the last address that no trusted proxy has: what stands before it anybody may have written."""
        client = ""
        for hop in reversed(hops[-MOST_HOPS:]):
            address = _address(hop)
            if not address:
                break
            client = address
            if not self.trusts(address):
                break
        return client


class Sender(NamedTuple):
    """The other end of one connection."""

    address: str = ""  # empty where there is none, as on a local socket
    names: Sequence[CertifiedName] = ()  # in its certificate
    proxies: Proxies | None = None  # where it is a trusted proxy

    def forwarded(self, headers: Headers) -> Forwarded:
        """Return what it says of the caller; nothing where it is not trusted."""
        return NOTHING_FORWARDED if self.proxies is None else self.proxies.read(headers)

    def client(self, headers: Headers) -> str:
        """Return the address of the caller, as well as it is known."""
        return self.forwarded(headers).client or self.address


def _split(text: str) -> Iterator[str]:
    """Give the elements of a list with commas; a comma in quotes parts nothing."""
    return (part.strip() for part in re.findall(r"(?:\"(?:[^\"\\]|\\.)*\"|[^,\"])+", text) if part.strip())


def _element(text: str) -> dict[str, str]:
    """Return the pairs of one element of Forwarded, such as for="[2001:db8::1]:4711";proto=https."""
    return {name.lower(): re.sub(r"\\(.)", r"\1", value.strip('"')) for name, value in ELEMENT.findall(text)}


def _address(hop: str) -> str:
    """Return the address of `address`, `address:port` or `[address]:port`; nothing for another text, such as unknown."""
    text = hop.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
