"""A challenger runs beside the served version: compared, counted, seen by nobody who asks."""

import json
import time
from pathlib import Path

import numpy as np

from batchproof.service.bundle import reader
from batchproof.service.features.arrays import Arrays
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.server.serving.observing.shadow import compare
from tests.bundles import NUMBERS, make_bundle
from tests.http_client import ask
from tests.live import live
from tests.service.server.test_reload import BODY, ROW, hang_up, put, until_event, until_ready


def test_rows_are_compared_one_by_one(tmp_path: Path) -> None:
    """Each row counts with its largest difference; a label changes where another class is the most probable."""
    loaded = [
        model.load(reader.read(make_bundle(tmp_path, version=version, seed=version)), EngineOptions(device="cpu"), 64)
        for version in (1, 2)
    ]
    rows = [list(ROW.values()), [55.0, "Ærø", 9, None, False, 2, True], [None, None, 0, None, True, 1, False]]
    requests: list[Arrays] = [loaded[0].encoder.encode_rows(some).arrays for some in (rows[:1], rows[1:])]
    ours, theirs = (one.runner.run(requests) for one in loaded)
    compared = compare(loaded[0], loaded[1], requests, ours)
    pairs = zip(
        np.concatenate([own["probabilities"] for own in ours]),
        np.concatenate([own["probabilities"] for own in theirs]),
        strict=True,
    )
    expected = [(float(np.abs(a.astype(float) - b).max()), a.argmax() != b.argmax()) for a, b in pairs]
    assert compared.differences.tolist() == [difference for difference, _ in expected]
    assert compared.labels_changed == sum(changed for _, changed in expected)
    assert compare(loaded[0], loaded[0], requests, ours).differences.tolist() == [0.0, 0.0, 0.0]


def test_a_challenger_is_compared_and_answers_nobody(tmp_path: Path) -> None:
    """The newest version is the challenger: the older one answers, and metrics, page and log say how they differ."""
    models = tmp_path / "models"
    put(models, 1)
    put(models, 2)
    flags = ("--workers", "2", "--shadow", "flowers=2", "--shadow-share", "1")
    with live(models, *flags) as server:
        until_ready(server, "2")
        for _ in range(12):
            assert ask(server, "POST", "/predict", BODY).content["model"]["version"] == 1
            time.sleep(0.02)
        seen = until_event(server, "shadow_compared")
        assert (seen["model"], seen["version"], seen["shadow"]) == ("flowers", 1, 2)
        time.sleep(1.2)
        page = ask(server, "GET", "/models/flowers").content["shadow"]
        assert page["version"] == 2
        assert page["rows"] + page["dropped"] == 12
        assert sum(page["rows_by_difference"].values()) == page["rows"]
        text = ask(server, "GET", "/metrics").body.decode()
        labels = 'model="flowers",shadow="2",version="1"'
        assert f"batchproof_shadow_difference_count{{{labels}}} {float(page['rows'])}" in text
        assert 'batchproof_shadow_batches_total{model="flowers",outcome="failed",shadow="2",version="1"} 0.0' in text


def test_a_challenger_comes_and_goes_with_the_settings(tmp_path: Path) -> None:
    """SIGHUP makes the newest version a challenger, and takes it back: then it answers; another signature is refused."""
    models, file = tmp_path / "models", tmp_path / "settings.toml"
    file.write_text("")
    put(models, 1)
    make_bundle(tmp_path / "aside", version=3, inputs=NUMBERS).rename(models / "flowers" / "3")
    put(models, 2)
    file.write_text("shadow = { flowers = 3 }\nshadow_share = 1.0\n")
    with live(models, "--settings", str(file)) as server:
        assert ask(server, "POST", "/predict", BODY).content["model"]["version"] == 2
        assert json.loads(ask(server, "GET", "/models/flowers").body)["shadow"]["rows"] == 0
        file.write_text("shadow = { flowers = 2 }\nshadow_share = 1.0\npins = { flowers = 1 }\n")
        hang_up(server)
        until_event(server, "reloaded")
        assert ask(server, "POST", "/predict", BODY).content["model"]["version"] == 1
        until_event(server, "shadow_compared")
        file.write_text("pins = { flowers = 2 }\n")
        hang_up(server)
        until_event(server, "reloaded")
        assert ask(server, "POST", "/predict", BODY).content["model"]["version"] == 2
        assert ask(server, "GET", "/models/flowers").content["shadow"] is None
