"""Limits on what a caller's table may decompress to."""
