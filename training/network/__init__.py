"""The batch-norm MLP (`network`), its losses, exact statistics and folding. A new layer type begins in `network` and `fold`."""
