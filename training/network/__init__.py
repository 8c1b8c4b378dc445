"""The batch-norm MLP, its statistics and its folding."""
