"""Encodings of numbers and dates: scaled values, bins, waves and calendar parts."""
