"""Swaps of a model while it serves: what callers get, how long they wait, and what memory does."""
