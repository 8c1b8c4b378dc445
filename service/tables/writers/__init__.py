"""Answered blocks to tables."""
