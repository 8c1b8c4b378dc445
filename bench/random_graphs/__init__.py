"""Draw ONNX graphs at random out of the prover's operators, with constants at the edges of their types.

A draft is built beside a proof of it: most nodes that the prover refuses are thrown away again, so that a good part of
the graphs is certified although they are long and strange. Then `near_miss` changes one thing of a finished graph (a
constant, a limit, an operator, an attribute, an operand): what is still certified after that lies at the border.
"""

from bench.random_graphs.drafts import FLOATS, INTEGERS
from bench.random_graphs.drawing import draw

__all__ = ["FLOATS", "INTEGERS", "draw"]
