"""The folded network in exact arithmetic."""
