"""The bundle: what a model folder holds, read as untrusted input."""
