"""The project's commands, as make would run them."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("given", "ending"),
    [
        ((), "-m batchproof.service serve"),
        (("PORT=8811",), "-m batchproof.service serve --port 8811"),
        (("MODELS=mine", "PORT=1"), "-m batchproof.service serve --models mine --port 1"),
    ],
)
def test_serve_passes_what_was_given_alone(given: tuple[str, ...], ending: str) -> None:
    """A flag beats the environment and the settings file, so `make serve` passes only the flags that it was given."""
    of_make = ("MODELS", "PORT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # the tests themselves may run under make
    environment = {name: value for name, value in os.environ.items() if name not in of_make}
    command = ["make", "--no-print-directory", "--dry-run", "--old-file", "pyproject.toml", "serve", *given]
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert " ".join(shown.splitlines()[-1].split()).endswith(ending)
