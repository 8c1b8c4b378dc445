"""Traces: whether a request is traced, what is recorded of it on the event loop, and its spans on another thread."""
