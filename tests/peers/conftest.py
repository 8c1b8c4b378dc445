"""The models that the peers' clients ask, and what the engine alone answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.inference.engine import Engine, EngineOptions
from tests.bundles import make_kinds
from tests.peers.rows import Expected


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of every kind of feature, one whose rows are a matrix, and a regression."""
    return make_kinds(tmp_path_factory.mktemp("models"))


@pytest.fixture
def expected(models: Path) -> Expected:
    """Return (name of a model, rows) -> the outputs that the engine alone gives for them."""

    def run(name: str, rows: list[list[Any]]) -> dict[str, np.ndarray]:
        read = bundle.read(models / name / "1")
        encoded = Encoder(read.manifest.signature).encode_rows(rows)
        assert not encoded.errors
        return Engine(read.model, EngineOptions(device="cpu")).run(encoded.arrays)

    return run
