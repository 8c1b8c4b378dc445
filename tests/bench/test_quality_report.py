from pathlib import Path

import numpy as np

from bench.quality import report


def rows() -> list[dict[str, object]]:
    losses = {("a", "ours"): [1.0, 2.0], ("a", "trees"): [2.0, 2.0], ("b", "ours"): [3.0], ("b", "trees"): [2.0, 9.0]}
    return [
        {"table": table, "method": method, "seed": seed, "loss": loss}
        for (table, method), values in losses.items()
        for seed, loss in enumerate(values)
    ]


def test_ratios_are_paired_by_seed() -> None:
    """Ours over a peer takes only the seeds that both have; the median is over tables."""
    lines = report.text(rows(), ["a", "b"]).splitlines()
    assert "| a | 0.750 | 0.750 |" in lines
    assert "| b | 1.500 | 1.500 |" in lines
    assert f"| **median** | {np.median([0.75, 1.5]):.3f} | |" in lines


def test_means_carry_their_spread_and_count() -> None:
    """One seed has no spread."""
    text = report.text(rows(), ["a", "b"])
    assert "1.5 ± 0.71 ·2" in text
    assert "| 3 ·1 |" in text


def test_a_results_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """The first run starts from nothing."""
    assert report.read(tmp_path / "none.jsonl") == []


def test_quick_fits_stand_beside_default_ones() -> None:
    """Losses and seconds are means over the seeds of both; the ratios' mean is geometric, and a quick fit is no peer."""
    spent = {"ours": 40.0, "quick": 5.0}
    losses = {("a", "ours"): [1.0, 2.0], ("a", "quick"): [1.5, 3.0], ("b", "ours"): [3.0, 1.0], ("b", "quick"): [2.0]}
    found: list[dict[str, object]] = [
        {"table": table, "method": method, "seed": seed, "loss": loss, "seconds": spent[method], "cpu_seconds": 1.0}
        for (table, method), values in losses.items()
        for seed, loss in enumerate(values)
    ]
    lines = report.text(found, ["a", "b"]).splitlines()
    assert "| a | 1.5 | 2.25 | 1 | 1 | 40 | 5 | 1.500 |" in lines
    assert "| b | 3 | 2 | 1 | 1 | 40 | 5 | 0.667 |" in lines
    assert "| **geometric mean** | | | | | | | 1.000 |" in lines
    assert not any(line.startswith("Ours over the peer") for line in lines)
