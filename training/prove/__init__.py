"""Prove from an ONNX file that a row's answers depend neither on the order of any sum nor on other rows.

Knows nothing of training: imports onnx and numpy only. `proof.prove` returns the certificate or raises `ProofError`
naming the node at which the argument breaks. docs/exact.md explains the argument.
"""

from batchproof.training.prove.box import ProofError
from batchproof.training.prove.proof import prove

__all__ = ["ProofError", "prove"]
