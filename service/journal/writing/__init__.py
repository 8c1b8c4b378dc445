"""Answered requests into segments on the disk, chain by chain, and old segments away."""
