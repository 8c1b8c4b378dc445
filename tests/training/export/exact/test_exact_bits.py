"""An exact graph gives the same bits in every engine, at every option, in every batch and in any order of summation."""

from functools import cache
from itertools import product

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from batchproof.service.features.arrays import Arrays
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.training.export.exact.graph import exact_graph
from batchproof.training.export.exact.optimiser import LEVELS, check_optimised
from batchproof.training.prove import ProofError
from tests.networks import Net, make_net, make_raw
from tests.permuted import evaluate

SHAPES = {  # members, widths, headroom: alone and stacked, with and without depths that may saturate
    "binary": (1, (40, 24), 8.0),
    "multiclass": (2, (40, 24), 8.0),
    "regression": (3, (20, 16, 12), 0.01),
    "counts": (2, (40, 24), 8.0),
}
TASKS = list(SHAPES)
ROWS = 600
Case = tuple[Net, onnx.ModelProto, Arrays, dict[str, bytes]]


@cache
def case(task: str) -> Case:
    """Return a network, its exact graph, rows to try it on and the bits that each row gives alone."""
    members, widths, headroom = SHAPES[task]
    is_log = task == "counts"
    net = make_net("regression" if is_log else task, is_log=is_log, widths=widths, members=members, seed=3)
    model = exact_graph(net.folded, net.preprocess, net.maxima, headroom).model("exact")
    raw = difficult_rows()
    engine = make_engine(model)
    alone = [engine.run([part[row : row + 1] for part in raw]) for row in range(ROWS)]
    bits = {name: b"".join(outputs[name].tobytes() for outputs in alone) for name in alone[0]}
    return net, model, raw, bits


def difficult_rows() -> Arrays:
    """Draw rows and put zeros of both signs, infinities, huge and tiny values, and unlisted codes among them."""
    raw = make_raw(ROWS, np.random.default_rng(7))
    assert raw.numeric is not None
    assert raw.categorical is not None
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.7e308, -1.7e308, 5e-324, -5e-324, 1e-310]
    raw.numeric[: len(odd)] = np.array(odd)[:, None]
    raw.numeric[len(odd) : 2 * len(odd), 1] = odd
    raw.categorical[:4] = [[-1, 2**62], [10, -(2**62)], [4, 21], [3, 22]]
    return raw


def make_engine(model: onnx.ModelProto, **options: object) -> Engine:
    """Load a model with engine options."""
    return Engine(model.SerializeToString(), EngineOptions(device="cpu", **options))


def bits_of(outputs: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Return the outputs' bytes."""
    return {name: array.tobytes() for name, array in outputs.items()}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("level, threads, prepacking", list(product(LEVELS, (1, 2), (True, False))))
def test_no_engine_option_changes_a_bit(task: str, level: str, threads: int, *, prepacking: bool) -> None:
    """Optimisation level, threads and prepacking leave every output bit as it is."""
    _, model, raw, bits = case(task)
    entries = () if prepacking else (("session.disable_prepacking", "1"),)
    engine = make_engine(model, optimisation=level, threads=threads, entries=entries)
    assert bits_of(engine.run(raw)) == bits


@pytest.mark.parametrize("task", TASKS)
def test_no_batch_changes_a_bit(task: str) -> None:
    """A row gives its lone bits in batches of every size, at every position, beside any others."""
    _, model, raw, _ = case(task)
    random = np.random.default_rng(1)
    engine = make_engine(model)
    alone = engine.run(raw)
    for size in (*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 4096):
        chosen = random.integers(0, ROWS, size)
        found = engine.run([part[chosen] for part in raw])
        assert all(found[name].tobytes() == alone[name][chosen].tobytes() for name in alone), f"batch of {size}"


@pytest.mark.parametrize("task", TASKS)
def test_the_reference_evaluator_gives_the_same_bits(task: str) -> None:
    """The pure-NumPy reference implementation of ONNX agrees to the bit."""
    net, model, raw, bits = case(task)
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(model).run(None, net.arrays(raw))
    assert {value.name: array.tobytes() for value, array in zip(model.graph.output, found, strict=True)} == bits


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_summation_changes_no_bit(task: str, seed: int) -> None:
    """Sums added up term by term in random orders and groups agree to the bit."""
    net, model, raw, bits = case(task)
    found = evaluate(model, net.arrays(raw), np.random.default_rng(seed))
    assert {name: array.tobytes() for name, array in found.items()} == bits


@pytest.mark.parametrize("rounded", [True, False])
def test_the_order_of_summation_matters_off_the_grid(*, rounded: bool) -> None:
    """With one Round taken out, the same random orders do change the float64 sums: the test above can fail."""
    net, certified, raw, _ = case("multiclass")
    model = onnx.ModelProto()
    model.CopyFrom(certified)
    model.graph.output.append(onnx.helper.make_tensor_value_info("layer1", onnx.TensorProto.DOUBLE, [2, 24, "rows"]))
    if not rounded:
        next(node for node in model.graph.node if node.name == "layer0_rounded").op_type = "Identity"
    found = [evaluate(model, net.arrays(raw), np.random.default_rng(seed))["layer1"].tobytes() for seed in range(2)]
    assert (found[0] == found[1]) == rounded


@pytest.mark.parametrize("task", TASKS)
def test_the_optimiser_leaves_the_proved_arithmetic_alone(task: str) -> None:
    """At every level the engine runs the expressions that were proved."""
    check_optimised(case(task)[1].SerializeToString())


def test_a_rewritten_graph_is_told_from_the_proved_one() -> None:
    """An Add of zero that the engine drops, because another node reads it, is found by comparing the graphs."""
    model = onnx.ModelProto()
    model.CopyFrom(case("regression")[1])
    settled = next(node for node in model.graph.node if node.name == "value")
    settled.output[0] = "early"
    model.graph.node.append(onnx.helper.make_node("Identity", ["early"], ["value"], name="late"))
    with pytest.raises(ProofError, match="Add"):
        check_optimised(model.SerializeToString())


@pytest.mark.parametrize("level", LEVELS)
def test_zeros_come_out_with_one_sign(level: str) -> None:
    """A score that is zero is +0.0 at every optimisation level, whatever signs its terms had."""
    net = make_net("multiclass", widths=())
    member = net.folded.members[0]
    member.layers[-1].weight[...] *= -0.0
    member.layers[-1].bias[...] = -0.0
    model = exact_graph(net.folded, net.preprocess, net.maxima).model("exact")
    scores = make_engine(model, optimisation=level).run(net.raw)["scores"]
    assert not scores.any()
    assert not np.signbit(scores).any()
