"""Measure models on held-out rows: metrics, baselines, cross-validation, conformal thresholds."""
