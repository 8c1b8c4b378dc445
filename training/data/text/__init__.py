"""Columns of texts: numbers, dates or categories, and by which rule they are read."""
