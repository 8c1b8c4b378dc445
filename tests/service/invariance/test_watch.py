"""While serving, a violation is counted, recorded and logged without a value, and under `require` ends the serving."""

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproof.service.bundle import reader as bundle
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import EngineError, ServiceError
from batchproof.service.features.arrays import Arrays, Outputs
from batchproof.service.inference import model
from batchproof.service.inference.catalogue.registry import Registry
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.inference.runner import Feeds, Runner
from batchproof.service.runtime.metrics import ModelKey
from batchproof.service.server.http.monitoring.health import readiness
from batchproof.service.server.serving.app import App
from tests.bundles import make_bundle


class Leaking(Runner):
    """A runner whose answers depend on how many rows run together."""

    def run(self, requests: Sequence[Feeds]) -> list[Outputs]:
        """Add the number of rows to every score."""
        outputs = super().run(requests)
        rows = sum(len(one["scores"]) for one in outputs)
        return [{**one, "scores": one["scores"] + np.float32(rows)} for one in outputs]


class Failing(Runner):
    """A runner that fails on a lone row, as the audit runs it."""

    def run(self, requests: Sequence[Feeds]) -> list[Outputs]:
        """Fail on one request."""
        if len(requests) == 1:
            raise EngineError("the engine failed: no memory")
        return super().run(requests)


@pytest.fixture
def loaded(tmp_path: Path) -> Model:
    return model.load(bundle.read(make_bundle(tmp_path)), EngineOptions(device="cpu"), run_rows=64)


def served(loaded: Model, runner: type[Runner], folder: Path, policy: str = "require") -> App:
    changed = dataclasses.replace(loaded, runner=runner(loaded.engine, 64))
    settings = Settings(audit_every=1, audit_folder=str(folder), invariance=policy)
    return App(settings, Registry({"flowers": {1: changed}}))


def ask(service: App, times: int) -> list[Any]:
    """Send `times` requests of one row together; returns their outputs or refusals."""

    async def send() -> list[Any]:
        batcher, told = service.deployments[ModelKey("flowers", 1)].batcher, []
        arrays = Arrays(np.full((1, 4), 40.5), np.zeros((1, 3), dtype=np.int64))
        for _ in range(times):
            batcher.submit(arrays, 1, 10.0, lambda outputs, refusal: told.append(outputs or refusal))
        for _ in range(5):
            await asyncio.sleep(0)
        return told

    return asyncio.run(send())


def logged(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == name]  # type: ignore[attr-defined]


def test_violation_withdraws_the_model(loaded: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The callers of the batch have their answers; later ones get 503, the process is not ready, the log says where."""
    service = served(loaded, Leaking, tmp_path / "records")
    with caplog.at_level(logging.INFO, "batchproof"):
        told = ask(service, 3)

    assert [isinstance(one, dict) for one in told] == [True] * 3
    with pytest.raises(ServiceError) as refused:
        ask(service, 1)
    assert (refused.value.status, refused.value.code) == (503, "withdrawn")
    assert not service.is_ready
    (told_event,) = logged(caplog, "invariance_violated")
    assert [str(path) for path in (tmp_path / "records").iterdir()] == [told_event["record"]]
    assert "40.5" not in str(told_event)
    assert len(logged(caplog, "model_withdrawn")) == 1


def test_report_policy_goes_on(loaded: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under `report` a violation is logged and counted, and the model goes on serving."""
    service = served(loaded, Leaking, tmp_path, policy="report")
    with caplog.at_level(logging.INFO, "batchproof"):
        ask(service, 2)
        ask(service, 2)

    assert len(logged(caplog, "invariance_violated")) == 2
    assert service.is_ready
    assert readiness(service.registry)["models"][0]["invariance"] == "violated"


@pytest.mark.parametrize("policy", ["report", "require"])
def test_violation_is_told_once(loaded: Model, tmp_path: Path, policy: str) -> None:
    """The other workers are told of the first violation of a model, and not of what they told themselves."""
    service = served(loaded, Leaking, tmp_path, policy)
    told: list[tuple[str, int, str]] = []
    service.tell_violation = lambda *seen: told.append(seen)
    ask(service, 2)
    with suppress(ServiceError):  # it is withdrawn under `require`
        ask(service, 2)
    service.violated("flowers", 1)
    service.violated("grasses", 1)

    assert told == [("flowers", 1, loaded.manifest.sha256)]


def test_violation_elsewhere_withdraws_the_model(loaded: Model, tmp_path: Path) -> None:
    """What another worker saw ends the serving here too."""
    service = served(loaded, Runner, tmp_path)
    service.violated("flowers", 1)

    with pytest.raises(ServiceError) as refused:
        ask(service, 1)
    assert refused.value.code == "withdrawn"
    assert not service.is_ready


def test_sound_model_goes_on(loaded: Model, tmp_path: Path) -> None:
    """Looking at every batch of a sound model changes nothing."""
    service = served(loaded, Runner, tmp_path)

    assert all(isinstance(one, dict) for _ in range(5) for one in ask(service, 4))
    assert service.is_ready
    assert not list(tmp_path.glob("*.json"))


def test_engine_failure_of_the_audit_is_logged(loaded: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the audit's own run fails, callers have their answers and the log has the reason."""
    service = served(loaded, Failing, tmp_path)
    with caplog.at_level(logging.INFO, "batchproof"):
        told = ask(service, 2)

    assert [isinstance(one, dict) for one in told] == [True, True]
    assert logged(caplog, "audit_failed")[0]["reason"] == "the engine failed: no memory"
    assert service.is_ready


def test_record_that_cannot_be_written_is_said(loaded: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that cannot be made does not stop the answers nor the withdrawal; the log says why."""
    (tmp_path / "file").write_text("")
    service = served(loaded, Leaking, tmp_path / "file" / "records")
    with caplog.at_level(logging.INFO, "batchproof"):
        ask(service, 2)

    assert logged(caplog, "invariance_violated")[0]["record"].startswith("not written: ")
    assert not service.is_ready
