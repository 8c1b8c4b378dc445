"""Each rule claims only what holds for every row that the operands describe: tried on random rows, in float32 and float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from batchproof.training.prove.monotone.rules import RULES
from batchproof.training.prove.monotone.trend import Trend, of_constant, trend

DRAWS = 200
COMPUTED: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Abs": np.abs,
    "Floor": np.floor,
    "Round": np.rint,
    "Relu": lambda a: np.maximum(a, 0.0),
    "Identity": lambda a: a,
    "Clip": lambda a, low, high: np.minimum(np.maximum(a, low), high),
    "Min": np.minimum,
    "Max": np.maximum,
    "Equal": lambda a, b: (a == b).astype(np.float64),
    "Greater": lambda a, b: (a > b).astype(np.float64),
}
OPERANDS = {
    name: 1 if name in ("Abs", "Floor", "Round", "Relu", "Identity") else 3 if name == "Clip" else 2
    for name in COMPUTED
}


class Moving:
    """A random tensor [1, width], its trend, and rows before and after a move that fits the trend."""

    def __init__(self, random: np.random.Generator, width: int, kind: type[np.floating[Any]]) -> None:
        ends = np.sort(random.integers(-4, 5, (2, 1, width)) * 0.75, axis=0)
        way = random.integers(-1, 3, (1, width))  # 2: any way
        self.trend = trend(ends[0], ends[1], (way == 0) | (way == 1), (way == 0) | (way == -1))
        first, second = (random.uniform(ends[0], ends[1], (DRAWS, width)).astype(kind) for _ in range(2))
        low, high = np.minimum(first, second), np.maximum(first, second)
        single = ends[0] == ends[1]
        self.before = np.where(way == 1, low, np.where(way == -1, high, first))
        self.after = np.where(
            (way == 0) | single, self.before, np.where(way == 1, high, np.where(way == -1, low, second))
        )
        self.before, self.after = self.before.astype(kind), self.after.astype(kind)


def holds(claimed: Trend, before: np.ndarray, after: np.ndarray) -> bool:
    """Whether rows [DRAWS, width] before and after a move fit what is claimed of them; what is not finite is left out."""
    up, down = (np.broadcast_to(part, before.shape) for part in (claimed.up, claimed.down))
    finite = np.isfinite(before) & np.isfinite(after)
    room = 1e-6 * np.maximum(np.abs(before), 1.0)  # the ends are those of float64
    within = (claimed.low - room <= before) & (before <= claimed.high + room)
    return bool(
        within[finite].all() and (after >= before)[up & finite].all() and (after <= before)[down & finite].all()
    )


def claimed_of(name: str, operands: list[Moving]) -> Trend:
    with np.errstate(all="ignore"):
        return RULES[name]("node", [each.trend for each in operands], {})


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(COMPUTED))
@pytest.mark.parametrize("seed", range(20))
def test_what_is_claimed_holds(name: str, kind: type[np.floating[Any]], seed: int) -> None:
    """Rows that move as the operands may, move as the rule says, and stay within its interval."""
    random = np.random.default_rng(seed)
    operands = [Moving(random, 12, kind) for _ in range(OPERANDS[name])]
    with np.errstate(all="ignore"):
        before = COMPUTED[name](*(each.before for each in operands))
        after = COMPUTED[name](*(each.after for each in operands))
    assert holds(claimed_of(name, operands), before, after)


@pytest.mark.parametrize("name", list(COMPUTED))
def test_something_is_claimed(name: str) -> None:
    """Each rule finds results that move one way, and ones of which it says nothing; Equal only finds those that stay."""
    random = np.random.default_rng(0)
    found = [claimed_of(name, [Moving(random, 12, np.float64) for _ in range(OPERANDS[name])]) for _ in range(20)]
    assert any((each.up & ~each.down).any() for each in found) == (name != "Equal")
    assert any(each.still.any() for each in found)
    assert any((~each.up & ~each.down).any() for each in found)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("first", [True, False])
def test_products_of_matrices(seed: int, *, first: bool) -> None:
    """A product never falls where each of its terms never falls; a weight of 0 lets any input move."""
    random = np.random.default_rng(seed)
    weight = random.integers(-1, 2, (6, 4)).astype(np.float64)
    x = Moving(random, 6, np.float64)
    stored = of_constant(weight.T if first else weight)
    operands = (stored, x.trend.moved(np.transpose)) if first else (x.trend, stored)
    claimed = RULES["MatMul"]("node", operands, {})
    claimed = claimed.moved(np.transpose) if first else claimed
    assert holds(claimed, x.before @ weight, x.after @ weight)
    against = ((weight > 0) & ~x.trend.up.T) | ((weight < 0) & ~x.trend.down.T)
    assert (claimed.up == ~against.any(axis=0)).all()
    shifted = RULES["Gemm"]("node", [x.trend, of_constant(weight), of_constant(np.ones(4))], {})
    assert (
        shifted.up == (claimed.up if not first else RULES["MatMul"]("node", (x.trend, of_constant(weight)), {}).up)
    ).all()


def test_a_choice_goes_where_both_ways_go_unless_the_condition_is_stored() -> None:
    """A stored condition chooses an operand; of one that is computed but stays, both have to go the same way; of a moving one nothing is known."""
    width = 3
    ends = np.zeros((1, width)), np.ones((1, width))
    rising = trend(*ends, np.ones((1, width), bool), np.zeros((1, width), bool))
    falling = trend(*ends, np.zeros((1, width), bool), np.ones((1, width), bool))
    still = trend(*ends, np.ones((1, width), bool), np.ones((1, width), bool))
    stored = of_constant(np.array([[True, False, True]]))
    chosen = RULES["Where"]("node", [stored, rising, falling], {})
    assert chosen.up.tolist() == [[True, False, True]]
    assert chosen.down.tolist() == [[False, True, False]]
    assert RULES["Where"]("node", [still, rising, still], {}).up.all()
    assert not RULES["Where"]("node", [still, rising, falling], {}).up.any()
    assert not RULES["Where"]("node", [rising, still, still], {}).up.any()


def test_of_a_divisor_that_may_be_zero_nothing_is_known() -> None:
    """A quotient by what is not surely above 0 has no end and no way, unless both operands stay."""
    ends, no, yes = (np.full((1, 2), -3.0), np.full((1, 2), 2.0)), np.zeros((1, 2), bool), np.ones((1, 2), bool)
    rising, still = trend(*ends, yes, no), trend(*ends, yes, yes)
    quotient = RULES["Div"]("node", [rising, still], {})
    assert not quotient.up.any()
    assert (quotient.low == -np.inf).all()
    assert RULES["Div"]("node", [still, still], {}).still.all()


def test_a_cast_rounds_and_keeps_order() -> None:
    """A Cast to a narrower float keeps the way; one to whole numbers has no rule."""
    x = trend(np.array([[0.1]]), np.array([[0.2]]), np.array([[True]]), np.array([[False]]))
    assert RULES["Cast"]("node", [x], {"to": TensorProto.FLOAT}).up.all()
    with pytest.raises(Exception, match="only a Cast to float32 or float64"):
        RULES["Cast"]("node", [x], {"to": TensorProto.INT64})
