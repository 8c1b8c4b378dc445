"""Predictions that do not depend on what they were batched with."""

__version__ = "0.1.0"
