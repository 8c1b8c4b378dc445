"""Which bundles a folder holds, which of them are wanted, and which are loaded."""
