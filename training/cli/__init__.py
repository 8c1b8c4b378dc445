"""The commands of `batchproof-train`."""
