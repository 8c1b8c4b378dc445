"""model.onnx checked against a closed list of fields, before the engine sees it."""
