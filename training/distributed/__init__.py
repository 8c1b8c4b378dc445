"""Training on several processes, to the same bits: what is cut into shards, merged in a fixed order, and agreed upon."""
