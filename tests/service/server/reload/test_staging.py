"""What a reload's loading thread does beside the event loop, and what it leaves undone at the start."""

import threading
from pathlib import Path

import pytest

from batchproof.service.bundle import reader
from batchproof.service.configuration.settings import Settings
from batchproof.service.inference.catalogue.plan import Committed, Entry, Plan
from batchproof.service.inference.model import Model
from batchproof.service.server.reload import staging
from batchproof.service.server.reload.staging import PAUSE_FACTOR, resume
from tests.bundles import make_bundle
from tests.inside import serving


def test_memory_of_a_version_that_left_goes_back_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the last reference to the old version is gone, what it took is returned."""
    given = threading.Event()
    monkeypatch.setattr(staging.memory, "give_back", given.set)
    make_bundle(tmp_path / "models", version=1)
    with serving(Settings(models=tmp_path / "models", model_control="explicit")) as server:
        make_bundle(tmp_path / "models", version=2, seed=2)
        order = server.app.model_control
        assert order is not None
        server.run(order.order("load", "flowers"))
        assert given.wait(30)


def test_only_a_process_that_serves_pauses_while_it_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside callers the check leaves the cores to them; a worker that starts has none, and hurries."""
    factors = list[float]()

    def load(settings: Settings, bundle: reader.Bundle, pause_factor: float) -> Model:
        factors.append(pause_factor)
        return load_model(settings, bundle, pause_factor)

    load_model = staging.load_model
    monkeypatch.setattr(staging, "load_model", load)
    settings = Settings(models=tmp_path / "models", model_control="explicit")
    make_bundle(tmp_path / "models", version=1)
    with serving(settings) as server:
        folder = make_bundle(tmp_path / "models", version=2, seed=2)
        order = server.app.model_control
        assert order is not None
        server.run(order.order("load", "flowers"))
        assert [key.version for key in server.app.deployments] == [2]
    bundle = reader.read(folder)
    entry = Entry("flowers", 2, bundle.manifest.sha256, str(folder))
    resume(settings, Committed(Plan(2, (entry,), {"flowers": 2}), {entry: bundle}))
    assert factors == [PAUSE_FACTOR, 0.0]
