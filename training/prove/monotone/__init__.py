"""Prove from an ONNX file that its answers never fall, or never rise, with some of its inputs: `walk.unproved`."""
