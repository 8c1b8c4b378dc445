"""Fit a batch-norm MLP on a table, fold its frozen statistics, and export the bundle that the service serves."""
