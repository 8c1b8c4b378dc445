"""Measurements for the report: scores, importance, reliability."""
