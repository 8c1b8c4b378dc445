"""Score files without a server, with the same readers, runner and bits (`batchproof predict`)."""
