"""The in-toto statement of a signature: the name of a model and the SHA-256 of each of its files.

Format: OpenSSF Model Signing v1.0, sections 5 and 6 (predicate, root digest), over in-toto Statement v1.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchproof.service.bundle.files import strict_json
from batchproof.service.bundle.signing import SIGNATURE_FILE
from batchproof.service.errors import BundleError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
IGNORED = (".git", ".gitattributes", ".github", ".gitignore")  # what the format leaves out of every signature
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_FILES = 10_000


@dataclass(frozen=True)
class Statement:
    """What was signed: the name of a model, and {name of a file: its SHA-256 in hex}."""

    model_name: str
    digests: Mapping[str, str]


def encode(model_name: str, digests: Mapping[str, str]) -> bytes:
    """Return the statement about the files of `digests` as JSON."""
    resources = [{"name": name, "algorithm": "sha256", "digest": digests[name]} for name in sorted(digests)]
    return json.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": model_name, "digest": {"sha256": root_digest(digests)}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [*IGNORED, SIGNATURE_FILE],
                },
                "resources": resources,
            },
        }
    ).encode()


def root_digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 over the raw digests in the order of the names."""
    return hashlib.sha256(b"".join(bytes.fromhex(digests[name]) for name in sorted(digests))).hexdigest()


def decode(payload: bytes) -> Statement:
    """Read a signed statement; raises BundleError for anything but one SHA-256 for each whole file."""
    try:
        content = strict_json.loads(payload)
    except ValueError as error:
        raise BundleError(f"{SIGNATURE_FILE}: the signed statement {error}") from error
    if _at(content, "_type") != STATEMENT_TYPE or _at(content, "predicateType") != PREDICATE_TYPE:
        raise BundleError(f"{SIGNATURE_FILE}: the signed statement must be of the type {PREDICATE_TYPE}")
    serialization = _at(content, "predicate", "serialization")
    if _at(serialization, "method") != "files" or _at(serialization, "hash_type") != "sha256":
        raise BundleError(f"{SIGNATURE_FILE}: the files must be hashed whole with SHA-256 (method files, sha256)")
    digests = _digests(_at(content, "predicate", "resources"))
    subjects = _at(content, "subject")
    subject = subjects[0] if isinstance(subjects, list) and len(subjects) == 1 else None
    if _at(subject, "digest", "sha256") != root_digest(digests):
        raise BundleError(f"{SIGNATURE_FILE}: the statement's own digest does not match its list of files")
    return Statement(str(_at(subject, "name")), digests)


def _digests(resources: Any) -> dict[str, str]:
    if not isinstance(resources, list) or not 0 < len(resources) <= MAX_FILES:
        raise BundleError(f"{SIGNATURE_FILE}: the statement must list 1 to {MAX_FILES} files")
    digests: dict[str, str] = {}
    for resource in resources:
        name, algorithm, digest = (_at(resource, key) for key in ("name", "algorithm", "digest"))
        if not isinstance(name, str) or algorithm != "sha256" or not SHA256.fullmatch(str(digest)):
            raise BundleError(f"{SIGNATURE_FILE}: each file needs a name and a SHA-256 of 64 hexadecimal digits")
        if name in digests:
            raise BundleError(f"{SIGNATURE_FILE}: the statement lists {name!r:.80} twice")
        digests[name] = str(digest)
    return digests


def _at(content: Any, *path: str) -> Any:
    """Return the value at nested keys; None if there is none."""
    for key in path:
        content = content.get(key) if isinstance(content, dict) else None
    return content
