"""Other model servers that pip can install, under the same loads as Batchproof: `python -m bench.peers WORK`."""
