"""The commands of `batchproof`."""
