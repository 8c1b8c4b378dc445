"""Drift: whether rows still look as the training rows did, from counts of rows; no row is kept.

`counts.py` counts rows into the cells of a bundle's reference statistics (`service/bundle/rows/reference.py`), `model_drift.py`
and `collector.py` do so beside the hot path, `statistics.py` has the figures and the points that they pass by chance
only, and `report.py` puts both side by side for each feature of a window.
"""
