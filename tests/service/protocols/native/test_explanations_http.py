"""Explanations and intervals over HTTP: the same text alone, among other rows, and beside other callers."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live, live

ASKED = {"explain": True, "coverage": 0.9}


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Live]:
    """Serve the committed models."""
    with live(root / "models") as found:
        yield found


def predictions(server: Live, rows: list[Any]) -> list[str]:
    """Ask once; returns the text of each row's prediction."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("POST", "/models/penguins/predict", json.dumps({"rows": rows, **ASKED}))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return [json.dumps(one) for one in answer["predictions"]]


def test_an_explanation_does_not_depend_on_its_batch(server: Live, penguins_bundle: Path) -> None:
    """Every row's explanation and set, to the last digit, is that of the row alone, whoever asks at the same time."""
    rows = json.loads((penguins_bundle / "golden.json").read_text())["rows"][:24]
    alone = [predictions(server, [row])[0] for row in rows]
    together = predictions(server, rows)
    with ThreadPoolExecutor(8) as pool:
        crowded = list(pool.map(lambda row: predictions(server, [*rows[:3], row])[3], rows))

    assert together == alone
    assert crowded == alone
    assert all("explanation" in one and "set" in one for one in map(json.loads, alone))


def test_contributions_add_up(server: Live, penguins_bundle: Path) -> None:
    """Contributions sum to the score less the baseline's."""
    rows = json.loads((penguins_bundle / "golden.json").read_text())["rows"][:8]
    for text in predictions(server, rows):
        found = json.loads(text)["explanation"]
        total = sum(found["contributions"].values())
        assert total == pytest.approx(found["score"] - found["baseline"], abs=1e-6)
