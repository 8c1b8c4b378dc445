"""What every test may ask for by name."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the checkout's folder."""
    return ROOT


@pytest.fixture(scope="session")
def penguins_bundle(root: Path) -> Path:
    """Return the newest committed penguins bundle, models/penguins/<version>/."""
    return max((root / "models" / "penguins").iterdir(), key=lambda folder: int(folder.name))
