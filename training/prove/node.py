"""One node as a rule sees it: its name, what is known of its operands, its attributes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from batchproof.training.prove.box import Box, ProofError


class Node(NamedTuple):
    """A node to derive the result of."""

    node: str
    boxes: Sequence[Box]
    attributes: dict[str, Any]

    def refuse(self, reason: str) -> ProofError:
        """Return the error that ends the proof at this node."""
        return ProofError(self.node, reason)

    def on(self, *boxes: Box) -> "Node":
        """Return the same node without attributes, on other operands."""
        return Node(self.node, boxes, {})


Rule = Callable[[Node], Box]
