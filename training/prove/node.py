"""One node as a rule sees it: its name, what is known of its operands, its attributes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from batchproof.training.prove.box import Box, ProofError
from batchproof.training.prove.limits import shape_fault


class Node(NamedTuple):
    """A node to derive the result of. Number, types and attributes of the operands are as `forms` has them."""

    node: str
    boxes: Sequence[Box]
    attributes: dict[str, Any]

    def refuse(self, reason: str) -> ProofError:
        """Return the error that ends the proof at this node."""
        return ProofError(self.node, reason)

    def on(self, *boxes: Box) -> "Node":
        """Return the same node without attributes, on other operands."""
        return Node(self.node, boxes, {})

    def need_room(self, shape: Sequence[int]) -> None:
        """Refuse a result of `shape` (of one row) that is empty, too large or of too many axes."""
        fault = shape_fault(shape, max(box.low.size for box in self.boxes))
        if fault:
            raise self.refuse(fault)


Rule = Callable[[Node], Box]
