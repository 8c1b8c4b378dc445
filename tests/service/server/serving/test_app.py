"""What a start says when there is nothing to serve or a setting cannot be met."""

import asyncio
from pathlib import Path

import pytest

from batchproof.service.configuration.settings import load
from batchproof.service.errors import SettingError
from batchproof.service.server.serving import app
from tests.bundles import make_bundle


def test_an_empty_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without bundles is served unready, and the log says what was looked for."""
    told: list[str] = []
    monkeypatch.setattr(app, "event", lambda name, level=20, **named: told.append(f"{name}: {named.get('what')}"))
    assert not app.load(load({"models": str(tmp_path)}, {}).settings).is_ready
    assert told == [f"no_models: no <name>/<version>/bundle.json in {tmp_path}"]


def test_a_pin_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """A pinned version that the folder has not is a setting that cannot be met."""
    make_bundle(tmp_path, "bank", 1)
    with pytest.raises(SettingError, match=r"^Model 'bank': version 7 is pinned, but .* has no folder bank/7\.$"):
        app.load(load({"models": str(tmp_path), "pins": "bank=7"}, {}).settings)


def test_a_device_that_is_not_there_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CUDA is asked for and absent, nothing is served."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    make_bundle(tmp_path)
    with pytest.raises(SettingError, match=r"^device cuda was asked for, but this onnxruntime has no CUDA"):
        app.load(load({"models": str(tmp_path), "device": "cuda"}, {}).settings)


@pytest.mark.parametrize(("cores", "workers", "ways_given"), [(4, 4, 1), (4, 3, 0), (1, 1, 1)])
def test_workers_that_share_cores_give_way(
    cores: int, workers: int, ways_given: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two batches the scheduler is asked for a turn of others, unless there is a core more than workers."""
    yields: list[None] = []
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr("os.sched_yield", lambda: yields.append(None))
    make_bundle(tmp_path, "bank", 1)
    loaded = app.load(load({"models": str(tmp_path), "workers": workers}, {}).settings)

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[object] = loop.create_future()
        (batcher,) = (deployment.batcher for deployment in loaded.deployments.values())
        arrays = loaded.registry.models["bank"][1].encoder.encode_rows([]).arrays
        batcher.submit(arrays, 0, 1.0, lambda outputs, error: reply.set_result(outputs or error))
        await reply

    asyncio.run(ask())
    assert len(yields) == ways_given
