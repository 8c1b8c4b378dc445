"""Drift as a service shows it: in its metrics and in a model's description, summed over its workers."""

import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.bundles import make_bundle, random_rows, signature_of
from tests.live import live

WINDOW_S = 4


def figures(url: str, window: str) -> dict[tuple[str, str], dict[str, float]]:
    """Return {(feature, kind): {metric: value}} of one window."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            if sample.name.startswith("batchproof_drift") and sample.labels.get("window", window) == window:
                key = (sample.labels.get("feature", ""), sample.labels.get("kind", sample.labels.get("outcome", "")))
                found.setdefault(key, {})[sample.name] = sample.value
    return found


def send(url: str, rows: list[list[Any]], late_s: float) -> None:
    """Send rows in small requests for some seconds, so that a whole window has enough of them."""
    with httpx.Client() as client:
        end_s, place = time.monotonic() + late_s, 0
        while time.monotonic() < end_s:
            part = [rows[(place + step) % len(rows)] for step in range(50)]
            assert client.post(f"{url}/predict", json={"rows": part}).status_code == 200
            place += 50
            time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_drift_is_shown_for_the_window_that_ended(tmp_path: Path, workers: int) -> None:
    """Changed rows are beyond a threshold in the metrics and in the description; unchanged features are not."""
    make_bundle(tmp_path, reference_rows=5000)
    rows = random_rows(signature_of(), 20_000, seed=5)
    for row in rows:
        row[0] = None if row[0] is None else row[0] + 5.0
    flags = ("--drift-short-s", str(WINDOW_S), "--drift-long-s", "86400", "--workers", str(workers))
    with live(tmp_path, *flags) as server:
        send(server.url, rows, 2 * WINDOW_S + 3.5)
        shown = figures(server.url, f"{WINDOW_S}s")
        drift = httpx.get(f"{server.url}/models/flowers").json()["drift"]

    beyond = {
        key
        for key, one in shown.items()
        if one.get("batchproof_drift", 0) > one.get("batchproof_drift_threshold", np.inf)
    }
    assert {feature for feature, _ in beyond} - {"colour"} == {"length_mm"}
    assert {("length_mm", "psi"), ("length_mm", "out_of_range")} <= beyond
    assert shown["", ""]["batchproof_drifted_features"] >= 1
    assert shown["", ""]["batchproof_drift_window_rows"] >= 1000
    assert shown["", "counted"]["batchproof_drift_rows_total"] > 1000
    short, long = drift["windows"]
    assert short["window"] == f"{WINDOW_S}s"
    assert "length_mm" in short["drifted"]
    assert {one["kind"] for one in short["figures"] if one["drift"]} >= {"psi", "out_of_range"}
    assert long["figures"] == [], "the day has not ended"
    assert long["running_rows"] > 0


def test_a_model_without_statistics_says_so(tmp_path: Path) -> None:
    """Without statistics, and without a share, the description has null and the metrics have nothing of drift."""
    make_bundle(tmp_path, "old")
    make_bundle(tmp_path, "new", reference_rows=500)
    with live(tmp_path, "--drift-share", "0") as server:
        for name in ("old", "new"):
            assert httpx.get(f"{server.url}/models/{name}").json()["drift"] is None
        assert figures(server.url, "1h") == {}
