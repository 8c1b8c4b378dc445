"""Any ONNX file with a batch axis, made fit for the check."""
