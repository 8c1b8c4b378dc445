"""The models that the peers' clients ask, and what the engine alone answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import bundle
from service.engine import Engine, EngineOptions
from service.features import Encoder
from tests.bundles import NUMBERS, make_bundle
from tests.peers.rows import Expected


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of every kind of feature, one whose rows are a matrix, and a regression."""
    folder = tmp_path_factory.mktemp("models")
    make_bundle(folder, "flowers")
    make_bundle(folder, "numbers", inputs=NUMBERS)
    make_bundle(folder, "price", task="regression", inputs=NUMBERS)
    return folder


@pytest.fixture
def expected(models: Path) -> Expected:
    """Return (name of a model, rows) -> the outputs that the engine alone gives for them."""

    def run(name: str, rows: list[list[Any]]) -> dict[str, np.ndarray]:
        read = bundle.read(models / name / "1")
        encoded = Encoder(read.manifest.signature).encode_rows(rows)
        assert not encoded.errors
        return Engine(read.model, EngineOptions(device="cpu")).run(encoded.arrays)

    return run
