"""What Batchproof costs, measured: `python -m bench` beside its floors, `python -m bench.peers` beside other servers."""
