"""The native JSON protocol."""
