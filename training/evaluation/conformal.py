"""Thresholds of split-conformal intervals and sets, calibrated on rows that the weights were not fitted to."""

import math

import numpy as np

from batchproof.service.bundle.conformal import Conformal

COVERAGES = (*(step / 100 for step in range(50, 100)), 0.995, 0.999)
MIN_BIN_ROWS = 200  # with fewer calibration rows in a bin, high coverages would have no threshold
MAX_BINS = 10


def for_values(
    predicted: np.ndarray, truth: np.ndarray, test_predicted: np.ndarray, test_truth: np.ndarray
) -> Conformal | None:
    """Calibrate intervals on `predicted`, `truth` [rows] in the target's unit; measure them on the test rows.

    The nonconformity is |truth - predicted|, ranked within bins of equally many predictions (Mondrian bins), so that
    a range of values with larger errors gets wider intervals. None where there are too few rows.
    """
    edges = _edges(predicted) if len(predicted) else np.empty(0)
    bins = np.searchsorted(edges, predicted, side="right")
    errors = np.abs(truth.astype(np.float64) - predicted)
    conformal = _fitted([errors[bins == bin_] for bin_ in range(len(edges) + 1)], edges)
    return conformal and _tested(conformal, _interval_results(conformal, test_predicted, test_truth))


def alike(found: list[Conformal]) -> list[Conformal]:
    """Return the thresholds of several targets with the coverages that all of them have: each has the least ones of COVERAGES."""
    most = min((len(one.coverages) for one in found), default=0)

    def cut(one: Conformal) -> Conformal:
        kept = {f"{coverage:g}" for coverage in one.coverages[:most]}
        return one.model_copy(
            update={
                "coverages": one.coverages[:most],
                "thresholds": tuple(bin_[:most] for bin_ in one.thresholds),
                "tested": {coverage: result for coverage, result in one.tested.items() if coverage in kept},
            }
        )

    return [one if len(one.coverages) == most else cut(one) for one in found]


def for_classes(
    probabilities: np.ndarray, codes: np.ndarray, test_probabilities: np.ndarray, test_codes: np.ndarray
) -> Conformal | None:
    """Calibrate sets on `probabilities` [rows, classes] and true class `codes` [rows]; measure them on the test rows.

    The nonconformity is 1 - p(true class). None where there are too few rows.
    """
    errors = 1.0 - probabilities[np.arange(len(codes)), codes].astype(np.float64)
    conformal = _fitted([errors], np.empty(0))
    return conformal and _tested(conformal, _set_results(conformal, test_probabilities, test_codes))


def _edges(predicted: np.ndarray) -> np.ndarray:
    bins = max(1, min(MAX_BINS, len(predicted) // MIN_BIN_ROWS))
    return np.unique(np.quantile(predicted.astype(np.float64), np.arange(1, bins) / bins))


def _fitted(groups: list[np.ndarray], edges: np.ndarray) -> Conformal | None:
    """Keep the coverages c for which every group of n errors has a ceil((n + 1) c)-th smallest one."""
    least = min(len(group) for group in groups)
    coverages = [coverage for coverage in COVERAGES if math.ceil((least + 1) * coverage) <= least]
    if not coverages:
        return None
    ranked = [np.sort(group) for group in groups]
    thresholds = [[float(group[math.ceil((len(group) + 1) * c) - 1]) for c in coverages] for group in ranked]
    return Conformal.model_validate(
        {
            "method": "split-conformal",
            "calibration_rows": sum(len(group) for group in groups),
            "coverages": coverages,
            "edges": edges.tolist(),
            "thresholds": thresholds,
            "tested": {},
        }
    )


def _interval_results(conformal: Conformal, predicted: np.ndarray, truth: np.ndarray) -> dict[str, dict[str, float]]:
    results = {}
    for level, coverage in enumerate(conformal.coverages):
        low, high = conformal.intervals(level, predicted)
        covered = (low <= truth) & (truth <= high)
        results[f"{coverage:g}"] = {
            "coverage": float(covered.mean()),
            "width": float((high - low).mean(dtype=np.float64)),
        }
    return results


def _set_results(conformal: Conformal, probabilities: np.ndarray, codes: np.ndarray) -> dict[str, dict[str, float]]:
    results = {}
    for level, coverage in enumerate(conformal.coverages):
        chosen = conformal.sets(level, probabilities)
        covered = chosen[np.arange(len(codes)), codes]
        results[f"{coverage:g}"] = {"coverage": float(covered.mean()), "size": float(chosen.sum(axis=1).mean())}
    return results


def _tested(conformal: Conformal, results: dict[str, dict[str, float]]) -> Conformal:
    return conformal.model_copy(update={"tested": results})
