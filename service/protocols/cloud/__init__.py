"""The scoring contracts of cloud platforms."""
