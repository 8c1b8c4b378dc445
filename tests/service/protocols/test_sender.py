"""What proxies say of a caller: whose word counts, and which of several words."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.protocols.sender import Forwarded, Proxies, Sender

PROXIES = Proxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])


def test_only_the_addresses_of_proxies_are_trusted() -> None:
    """An address counts where it is listed or in a listed network, in IPv4, in IPv6, and in IPv4 written as IPv6."""
    for address in ("127.0.0.1", "10.1.2.3", "fd00::1", "::ffff:10.0.0.1"):
        assert PROXIES.trusts(address)
    for address in ("127.0.0.2", "11.0.0.1", "fe80::1", "", "localhost", "::ffff:11.0.0.1"):
        assert not PROXIES.trusts(address)
    assert not Proxies([]).trusts("127.0.0.1")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Forwarded()),
        ({"x-forwarded-for": "203.0.113.7"}, Forwarded("203.0.113.7")),
        ({"x-forwarded-for": "198.51.100.1, 203.0.113.7, 10.0.0.2"}, Forwarded("203.0.113.7")),
        ({"x-forwarded-for": "10.0.0.3, 10.0.0.2"}, Forwarded("10.0.0.3")),
        ({"x-forwarded-for": "203.0.113.7, nonsense, 10.0.0.2"}, Forwarded("10.0.0.2")),
        ({"x-forwarded-for": "203.0.113.7:4711"}, Forwarded("203.0.113.7")),
        ({"x-forwarded-for": "[2001:db8::1]:4711"}, Forwarded("2001:db8::1")),
        ({"x-forwarded-for": "unknown"}, Forwarded()),
        ({"x-forwarded-proto": "HTTPS", "x-forwarded-host": "Models.example.org:8443", "x-forwarded-prefix": "/ml/"},
         Forwarded("", "https", "models.example.org:8443", "/ml")),
        ({"x-forwarded-host": "evil.example.org, models.example.org"}, Forwarded("", "", "models.example.org")),
        ({"x-forwarded-proto": "javascript", "x-forwarded-host": "a b", "x-forwarded-prefix": "//evil.example.org"}, Forwarded()),
        ({"x-forwarded-host": "evil.example.org/<script>", "x-forwarded-prefix": '/a"onload=x'}, Forwarded()),
        ({"forwarded": 'for="[2001:db8::1]:4711";proto=https;host=models.example.org'},
         Forwarded("2001:db8::1", "https", "models.example.org")),
        ({"forwarded": "For=203.0.113.7, for=10.0.0.2;Proto=http"}, Forwarded("203.0.113.7", "http")),
        ({"forwarded": "for=203.0.113.7;proto=https", "x-forwarded-for": "198.51.100.1"}, Forwarded("198.51.100.1")),
    ],
)  # fmt: skip
def test_what_is_read(headers: dict[str, str], expected: Forwarded) -> None:
    """Of several values the nearest proxy's counts, of several addresses the last that no trusted proxy has; others count nothing."""
    assert PROXIES.read([(name.encode(), value.encode()) for name, value in headers.items()]) == expected


def test_repeated_headers_are_one_list() -> None:
    """A header that comes twice means the same as its values with a comma between."""
    headers = [(b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-for", b"10.0.0.2")]
    assert PROXIES.read(headers).client == "203.0.113.7"


def test_others_are_not_believed() -> None:
    """What a caller sends that is no trusted proxy changes nothing."""
    sender = Sender("203.0.113.7")
    headers = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-host", b"evil.example.org")]
    assert sender.forwarded(headers) == Forwarded()
    assert sender.client(headers) == "203.0.113.7"


@given(
    st.dictionaries(
        st.sampled_from(["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix"]),
        st.binary(max_size=60),
    )
)
def test_any_bytes_are_read(headers: dict[str, bytes]) -> None:
    """Whatever stands in the headers, reading them ends, and what counts is an address, a host or a path."""
    read = PROXIES.read([(name.encode(), value) for name, value in headers.items()])
    assert not set("\r\n <>\"'\\") & set("".join(read))


@pytest.mark.parametrize("part", ['"', '"\\', "for=", ",", 'for="a\\"', "a:"])
def test_long_headers_cost_little(part: str) -> None:
    """A header of any length is read in bounded time."""
    started_s = time.process_time()
    for name in (b"forwarded", b"x-forwarded-for", b"x-forwarded-host"):
        PROXIES.read([(name, part.encode() * 30_000)])
    assert time.process_time() - started_s < 1.0
