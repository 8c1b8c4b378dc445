"""Commands for which the permissions of files hold, also where the tests run as root."""

import ctypes
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

PR_CAPBSET_DROP = 24
OVERRIDES = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root read and write everything
ROOT = Path(__file__).resolve().parents[1]


def run(command: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this checkout without root's right to pass over permissions; of its files root stays the owner."""
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        preexec_fn=_drop if os.geteuid() == 0 else None,
        check=False,
    )


def _drop() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    for capability in OVERRIDES:
        if library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "the capability cannot be dropped")
