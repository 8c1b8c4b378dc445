"""A table over HTTP."""
