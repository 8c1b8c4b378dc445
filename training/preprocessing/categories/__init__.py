"""Encodings of categories: a column each, or rows of one table that are looked up."""
