"""The journal in an object store: finished segments go there, and are read from there."""
