"""Check that all workers produce the same bits for the probe rows; each has its own session."""

import hashlib
import json
import os
from pathlib import Path

from batchproof.service.errors import EngineError
from batchproof.service.inference.model import Verdict


def agree(folder: Path, sha256: str, verdict: Verdict) -> None:
    """Compare with what another worker left in `folder` for the bundle `sha256`, or be the first to leave it.

    Only workers of the same engine, options, threads and processor are compared: others may differ in float32.
    Raises EngineError where the bits differ, OSError where the folder cannot be used.
    """
    host = json.dumps(dict(verdict.host), sort_keys=True)
    path = folder / f"bits-{hashlib.sha256(f'{sha256} {host}'.encode()).hexdigest()}"
    temporary = folder / f".{path.name}.{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    temporary.write_text(verdict.bits, encoding="ascii")
    try:
        os.link(temporary, path)  # whole or not at all, and only by the first
    except FileExistsError:
        if path.read_text(encoding="ascii") != verdict.bits:
            raise EngineError(
                "two workers computed different bits for the same probe rows with the same engine and options"
            ) from None
    finally:
        temporary.unlink()
