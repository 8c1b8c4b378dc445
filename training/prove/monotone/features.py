"""Monotone constraints by the names of features: what a bundle states, checked in its graph, and told to people."""

from collections.abc import Mapping, Sequence
from typing import Any

from batchproof.training.prove.box import ProofError
from batchproof.training.prove.limits import shown
from batchproof.training.prove.monotone.walk import unproved

CLAIM = (
    "Of two rows that differ only in these features, each of them missing in both rows or in neither, the answers are in this order, "
    "bit for bit: wherever every operation is rounded to nearest, and products of matrices add the same terms up in the same order "
    "for every row."
)


def check(model: bytes, columns: Sequence[str], monotone: Mapping[str, int]) -> None:
    """Raise ProofError, with the features, where the graph could give an answer that goes the wrong way.

    `columns` are the names of the columns of the graph's input `numeric`; `monotone` has 1 for a feature with which answers
    never fall, -1 for one with which they never rise.
    """
    absent = [name for name in monotone if name not in columns]
    if absent:
        raise ProofError("model", f"has no number or date {shown(absent[0])!r} to be monotone in")
    if not monotone:
        return
    wrong = [columns[place] for place in unproved(model, [monotone.get(name, 0) for name in columns])]
    if wrong:
        names = ", ".join(repr(shown(name)) for name in wrong)
        raise ProofError(
            "model", f"an answer may go the wrong way where {names} grows: a weight on its way has the wrong sign"
        )


def stated(monotone: Mapping[str, int]) -> dict[str, Any]:
    """Return what bundle.json states of constraints that were checked."""
    names = {"increasing": 1, "decreasing": -1}
    lists = {name: [each for each, way in monotone.items() if way == direction] for name, direction in names.items()}
    return {**lists, "claim": CLAIM}


def read(provenance: Mapping[str, Any]) -> dict[str, int]:
    """Return the constraints that the provenance of a bundle states; none where it states none."""
    found = provenance.get("monotone")
    lists = found if isinstance(found, dict) else {}
    named = ((lists.get(name), direction) for name, direction in (("increasing", 1), ("decreasing", -1)))
    return {str(name): direction for names, direction in named if isinstance(names, list) for name in names}


def page(monotone: Mapping[str, int]) -> list[str]:
    """Return constraints that were checked as lines of text; none for none."""
    ways = {"falls": 1, "rises": -1}
    told = [(verb, [shown(name) for name, way in monotone.items() if way == ways[verb]]) for verb in ways]
    lines = [f"no answer {verb} where one of these grows: {', '.join(names)}" for verb, names in told if names]
    return ["", "Proved monotone:", *lines, CLAIM] if lines else []
