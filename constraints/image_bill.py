"""Print the image's bill of materials (CycloneDX 1.6), from the lock that it is built from: `make image` calls it.

    python3 constraints/image_bill.py constraints/image-cpu.lock > batchproof-cpu.cdx.json

It names each package with its version and the SHA-256 of every file that the lock allows for it. Equal locks have equal
bills. Python is all that it needs. What the base image brings is for the base's own bill.
"""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

ROOT = Path(__file__).resolve().parents[1]
ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s\\;]+)(?P<rest>(?:.*\\\n)*.*)$", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def main(arguments: Sequence[str]) -> int:
    """Print the bill of the lock `arguments[0]`."""
    sys.stdout.write(json.dumps(bill(Path(arguments[0])), indent=2) + "\n")
    return 0


def bill(lock: Path) -> dict[str, Any]:
    """Return the bill of materials; raises ValueError for a package without a hash."""
    text = lock.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    image = {
        "type": "container",
        "bom-ref": "image",
        "name": "batchproof:" + lock.stem.removeprefix("image-"),
        "version": own_version(),
        "properties": [{"name": "batchproof:lock_sha256", "value": digest}],
    }
    packages = [component(entry) for entry in ENTRY.finditer(text)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'batchproof-image:{digest}')}",
        "version": 1,
        "metadata": {"component": image},
        "components": packages,
        "dependencies": [{"ref": "image", "dependsOn": [package["bom-ref"] for package in packages]}],
    }


def component(entry: re.Match[str]) -> dict[str, Any]:
    """Return one package; its hashes are of every file that may be installed, for any processor."""
    name = re.sub(r"[-_.]+", "-", entry["name"]).lower()
    hashes = HASH.findall(entry["rest"])
    if not hashes:
        raise ValueError(f"{name} has no hash in the lock")
    address = f"pkg:pypi/{name}@{entry['version']}"
    return {
        "type": "library",
        "bom-ref": address,
        "name": name,
        "version": entry["version"],
        "purl": address,
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in hashes],
    }


def own_version() -> str:
    """Return the version of Batchproof in this checkout."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "batchproof" / "__init__.py").read_text(encoding="utf-8"))
    assert found is not None, "batchproof/__init__.py names its version"
    return found[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
