"""Texts to values: numbers, dates and cells of tables."""
