"""The image's bill of materials, against the published schema of CycloneDX and against its lock."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.bundle.documents.test_bill_of_materials import validator

__all__ = ["validator"]
ROOT = Path(__file__).resolve().parents[2]


def bill(lock: Path) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "constraints" / "image_bill.py"), str(lock)]
    content: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return content


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_the_bill_names_every_package_of_the_lock(engine: str, validator: Any) -> None:
    """Each pin stands in the bill with its version and all of its hashes, and two bills of one lock are equal."""
    lock = ROOT / "constraints" / f"image-{engine}.lock"
    content, text = bill(lock), lock.read_text()
    validator.validate(content)
    listed = {f"{part['name']}=={part['version']}": len(part["hashes"]) for part in content["components"]}

    pinned = re.findall(r"^(\S+==\S+)", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(re.sub(r"[-_.]+(?=.*==)", "-", pin).lower() for pin in pinned)
    assert sum(listed.values()) == text.count("--hash=sha256:")
    assert bill(lock) == content


def test_a_package_without_a_hash_is_refused(tmp_path: Path) -> None:
    """A lock that names a package without a hash has no bill."""
    lock = tmp_path / "image-cpu.lock"
    lock.write_text("numpy==2.0\n")
    with pytest.raises(subprocess.CalledProcessError):
        bill(lock)


def test_the_image_can_check_signatures_and_tokens() -> None:
    """What settings offer works in the image: signatures and tokens need packages that its lock has."""
    for engine in ("cpu", "gpu"):
        names = {part["name"] for part in bill(ROOT / "constraints" / f"image-{engine}.lock")["components"]}
        assert {"cryptography", "pyjwt"} <= names
