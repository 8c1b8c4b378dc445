"""Patterns of names, and which names of a certificate they are about."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproof.service.access.patterns import CertifiedName, Kind, certifies, fits, kind_of


@given(st.text("ab*[?.", max_size=12), st.text("ab[?.", max_size=12))
def test_a_star_stands_for_any_text(pattern: str, text: str) -> None:
    """`*` stands for any text, also none, and every other character for itself."""
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert fits(text, pattern) is (re.fullmatch(expression, text, re.DOTALL) is not None)


def test_a_long_pattern_costs_little() -> None:
    """Many stars cost no more than the length of the text for each."""
    assert not fits("a" * 100_000, "*a" * 50 + "b")


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [("*.example.org", "host"), ("ada@example.org", "mail"), ("*@example.org", "mail"), ("spiffe://a/b@c", "uri"),
     ("https://example.org/?a=b", "uri"), ("urn:a:b", "uri"), ("CN=ada@example.org", "subject"), ("CN=spiffe://a/b", "subject"),
     ("*,O=Example", "subject")],
)  # fmt: skip
def test_a_pattern_is_about_one_kind(pattern: str, kind: Kind) -> None:
    """How a pattern is written says which names it is about."""
    assert kind_of(pattern) == kind


@pytest.mark.parametrize(
    ("pattern", "forged"),
    [
        ("spiffe://example.org/batch/*", CertifiedName("host", "spiffe://example.org/batch/eve")),
        ("spiffe://example.org/batch/*", CertifiedName("subject", "CN=spiffe://example.org/batch/eve")),
        ("*@example.org", CertifiedName("subject", "CN=eve@example.org")),
        ("*@example.org", CertifiedName("uri", "https://eve.example.net/@example.org")),
        ("*.example.org", CertifiedName("mail", "eve@mail.example.org")),
        ("*.example.org", CertifiedName("subject", "CN=eve.example.org")),
        ("CN=ada", CertifiedName("mail", "CN=ada")),
        ("CN=ada", CertifiedName("uri", "CN=ada")),
    ],
)
def test_a_name_of_another_kind_fits_nothing(pattern: str, forged: CertifiedName) -> None:
    """A name that looks like what the pattern is about counts only where it is of that kind."""
    assert fits(forged.text.removeprefix("CN="), pattern) or fits(forged.text, pattern)
    assert not certifies([forged], pattern)
    assert certifies([CertifiedName(kind_of(pattern), forged.text)], "*")
