"""Serve batch-norm MLP bundles over HTTP: each row gets the same bits, whatever it is batched with."""

import os

# onnxruntime 1.29 and later report usage by default; the variable counts only before its first import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
