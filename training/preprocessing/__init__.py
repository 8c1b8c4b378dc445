"""Encodings of feature values: each is fitted to plain arrays and appended to the graph as exact-capable nodes."""
