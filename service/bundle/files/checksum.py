"""The seal of bundle.json: a SHA-256 over the file itself, so that no byte of it can change unseen.

The digest is computed over the file's bytes with the 64 digits of the top-level field `sha256` written as zeros.
It guards against damage and careless edits, not against an author of bad faith, who can seal again.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

BLANK = "0" * 64


def seal(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of bundle.json for `content`, with its field `sha256` set; the only way to write the file."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps({"sha256": BLANK, **rest}, indent=1, allow_nan=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text.replace(BLANK, digest, 1).encode()  # the seal is the first field


def is_intact(raw: bytes, digest: str) -> bool:
    """Return whether `raw`, whose field `sha256` holds `digest`, is what was sealed."""
    written = digest.encode()
    return raw.count(written) == 1 and hashlib.sha256(raw.replace(written, BLANK.encode())).hexdigest() == digest
