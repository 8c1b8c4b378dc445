"""Limits on the cost of a proof: a hostile file is refused in one sentence, quickly and with little memory."""

from collections.abc import Sequence
from math import prod

MAX_FILE_BYTES = 2**29  # as for a bundle's model.onnx; what is derived from its constants needs up to four times that
MAX_STRUCTURE_BYTES = 2**23  # without the raw data of constants: one byte of it may unpack to a hundred
MAX_FIELDS = 200_000  # of a larger file: nodes, constants and what describes them
MAX_NODES = 20_000
MAX_INPUTS = 100
MAX_OPERANDS = 1_000
MAX_AXES = 8
MAX_ELEMENTS = 2**20  # of one row of a computed tensor
MAX_COMPUTED = 2**24  # elements of all computed tensors together; 25 bytes are kept for each
MAX_WORK = 2**28  # elements that all rules together read and write, some ten steps of NumPy for each
MAX_WORDS = 80  # characters of a name in a message


def shown(text: str, most: int = MAX_WORDS) -> str:
    """Return a name out of a file as a terminal can show it: no control characters, at most `most` of the letters."""
    short = text if len(text) <= most else text[:most] + "…"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in short)


def shape_fault(shape: Sequence[int], largest: int = 0) -> str | None:
    """Return why a computed tensor of `shape` (one row of it) is not derived, or None where it is.

    `largest` is the size of the greatest operand: moving the elements of a great constant costs no more than the file.
    """
    if len(shape) > MAX_AXES:
        return f"a tensor of {len(shape)} axes; at most {MAX_AXES} are supported"
    if prod(shape) < 1:
        return f"an empty tensor, of shape {list(shape)}: engines differ in what they make of it"
    if prod(shape) > max(MAX_ELEMENTS, largest):
        return f"{prod(shape)} elements for each row; at most {MAX_ELEMENTS} are supported"
    return None


class Budget:
    """What one proof may still spend."""

    def __init__(self) -> None:
        """Start with the whole of it."""
        self.work = MAX_WORK
        self.computed = MAX_COMPUTED

    def read(self, elements: int) -> str | None:
        """Take the elements of a node's operands off; returns why the proof ends here, or None."""
        self.work -= elements
        return f"the nodes so far read more than {MAX_WORK} elements" if self.work < 0 else None

    def write(self, elements: int) -> str | None:
        """Take the elements of a node's result off; returns why the proof ends here, or None."""
        self.computed -= elements
        return f"the tensors so far have more than {MAX_COMPUTED} elements for each row" if self.computed < 0 else None
