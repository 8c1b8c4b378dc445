"""docs/serve.md names every field of a request; tests/service/server/openapi/test_error_codes.py holds it to the refusals."""

from pathlib import Path

from batchproof.service.protocols.native.protocol import FIELDS

ROOT = Path(__file__).resolve().parents[2]


def test_every_field_is_explained() -> None:
    """The page names each field that a request may have."""
    page = (ROOT / "docs" / "serve.md").read_text()

    assert {name for name in FIELDS if f'"{name}"' not in page} == set()
