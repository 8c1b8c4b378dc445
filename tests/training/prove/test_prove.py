"""The prover refuses every single alteration of a certified graph, at the node where the argument breaks."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from batchproof.training.export.exact.graph import exact_graph
from batchproof.training.prove import ProofError, prove
from batchproof.training.prove.certificate import page
from tests.networks import make_net

Mutation = Callable[[onnx.GraphProto], None]


@pytest.fixture(scope="module")
def certified() -> onnx.ModelProto:
    """Return an exact graph with missing values, embeddings, two members, depths that may saturate and a softmax."""
    net = make_net("multiclass", members=2, widths=(48, 32))
    for layer in net.folded.members[0].layers[:2]:
        layer.weight[:, -1] += 1e5  # far more than training's maxima tell of: both depths are limited
    return exact_graph(net.folded, net.preprocess, net.maxima, headroom=1.0).model("exact")


def node(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    """Return a node by its name."""
    return next(each for each in graph.node if each.name == name)


def change(graph: onnx.GraphProto, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace a stored constant by what `edit` makes of a copy."""
    stored = next(each for each in graph.initializer if each.name == name)
    stored.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(stored).copy()), name))


def bypass(graph: onnx.GraphProto, name: str, operand: int = 0) -> None:
    """Take a node out: its readers read its operand."""
    gone = node(graph, name)
    for each in graph.node:
        for place, source in enumerate(each.input):
            if source == gone.output[0]:
                each.input[place] = gone.input[operand]
    graph.node.remove(gone)


def insert(graph: onnx.GraphProto, before: str, op: str, operand: int = 0, **attributes: object) -> None:
    """Put a node between another and one of its operands."""
    reader = node(graph, before)
    inserted = helper.make_node(op, [reader.input[operand]], ["inserted"], name="inserted", **attributes)
    reader.input[operand] = "inserted"
    graph.node.insert(list(graph.node).index(reader), inserted)


def set_entry(graph: onnx.GraphProto, name: str, place: tuple[int, ...] | int, value: float) -> None:
    """Overwrite one element of a stored constant."""

    def edit(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    change(graph, name, edit)


def nudge(graph: onnx.GraphProto, name: str) -> None:
    """Move the greatest element of a stored constant, of a MatMul's its bias aside, by one float64 step."""

    def edit(array: np.ndarray) -> np.ndarray:
        sizes = np.abs(array[..., :-1] if array.ndim == 3 else array)
        place = np.unravel_index(sizes.argmax(), sizes.shape)
        array[place] = np.nextafter(array[place], np.inf)
        return array

    change(graph, name, edit)


def swap(name: str, op: str) -> Mutation:
    """Return the mutation that gives a node another operator."""
    return lambda graph: setattr(node(graph, name), "op_type", op)


def alter(name: str, **attributes: object) -> Mutation:
    """Return the mutation that sets attributes of a node."""

    def mutate(graph: onnx.GraphProto) -> None:
        changed = node(graph, name)
        kept = [each for each in changed.attribute if each.name not in attributes]
        del changed.attribute[:]
        changed.attribute.extend([*kept, *(helper.make_attribute(key, value) for key, value in attributes.items())])

    return mutate


def insert_constant(before: str, operand: int, op: str, value: float) -> Mutation:
    """Return the mutation that combines an operand of a node with a number first."""

    def mutate(graph: onnx.GraphProto) -> None:
        insert(graph, before, op, operand)
        graph.initializer.append(helper.make_tensor("number", TensorProto.DOUBLE, [], [value]))
        node(graph, "inserted").input.append("number")

    return mutate


def rows_last(graph: onnx.GraphProto) -> str:
    """Put a node before the output `saturated` whose result has the rows along its last axis; returns its name."""
    limit = helper.make_node("Greater", ["layer0", "hidden_limit"], ["turned"], name="turned")
    graph.node.insert(list(graph.node).index(node(graph, "saturated")), limit)
    return "turned"


def divide_then_multiply(graph: onnx.GraphProto) -> None:
    """Write a quotient e / s as e * (1 / s)."""
    quotient = node(graph, "softmax")
    one = helper.make_tensor("one", TensorProto.DOUBLE, [], [1.0])
    graph.initializer.append(one)
    inverse = helper.make_node("Div", ["one", quotient.input[1]], ["inverse"], name="inverse")
    graph.node.insert(list(graph.node).index(quotient), inverse)
    quotient.op_type = "Mul"
    quotient.input[1] = "inverse"


def narrow_and_widen(graph: onnx.GraphProto) -> None:
    """Round scores to float32 and back before the softmax reads them."""
    insert(graph, "score_max", "Cast", to=TensorProto.FLOAT)
    node(graph, "inserted").name = "narrow"
    insert_after = helper.make_node("Cast", ["inserted"], ["wide"], name="wide", to=TensorProto.DOUBLE)
    reader = node(graph, "score_max")
    reader.input[0] = "wide"
    graph.node.insert(list(graph.node).index(reader), insert_after)


def greater_norm(array: np.ndarray) -> np.ndarray:
    """Return weights of nine times the size, on the same grid."""
    return array * 9.0


def drop_bias(graph: onnx.GraphProto) -> None:
    """Take the bias of a Gemm away."""
    del node(graph, "layer0").input[2:]


def add_to_nothing(graph: onnx.GraphProto) -> None:
    """Settle an output with -0.0 in the place of +0.0."""
    change(graph, "probabilities_zero", lambda array: -array)


def unsettled(graph: onnx.GraphProto) -> None:
    """Let the Cast write an output."""
    graph.node.remove(node(graph, "scores"))
    node(graph, "scores_single").output[0] = "scores"


def settled_early(graph: onnx.GraphProto) -> None:
    """Put a node after the last Add, which the engine then drops."""
    node(graph, "scores").output[0] = "early"
    graph.node.append(helper.make_node("Identity", ["early"], ["scores"], name="late"))


def one_row_bias(graph: onnx.GraphProto) -> None:
    """Give a constant of an elementwise operation a length along the rows."""
    change(graph, "scaling_center", lambda array: np.stack([array, array]))


MUTATIONS: dict[str, tuple[Mutation, str]] = {
    "a weight off its grid": (lambda graph: nudge(graph, "layer0_weight"), "layer0"),
    "a hidden weight off its grid": (lambda graph: nudge(graph, "layer1_weight"), "layer1"),
    "a bias off its grid": (lambda graph: nudge(graph, "layer2_bias"), "layer2"),
    "a weight that is NaN": (lambda graph: set_entry(graph, "layer0_weight", (0, 0), np.nan), "layer0"),
    "a bias that is infinite": (lambda graph: set_entry(graph, "layer0_bias", 0, np.inf), "layer0"),
    "weights of a greater norm": (lambda graph: change(graph, "layer1_weight", greater_norm), "layer1"),
    "a bias as a weight off its grid": (
        lambda graph: set_entry(graph, "layer1_weight", (0, 0, -1), 1.0 / 3.0),
        "layer1",
    ),
    "the channel of ones raised": (lambda graph: set_entry(graph, "layer0_bias", (48, 0), 2.0**40), "layer1"),
    "weights transposed": (alter("layer0", transA=1), "layer0"),
    "the rows' operand not transposed": (alter("layer0", transB=0), "layer0"),
    "the last rows' operand not transposed": (alter("layer2", transA=0), "layer2"),
    "a bias along the rows": (lambda graph: change(graph, "layer0_bias", np.transpose), "layer0"),
    "a last bias along the rows": (lambda graph: change(graph, "layer2_bias", lambda bias: bias[:, None]), "layer2"),
    "a sum behind a MatMul": (insert_constant("layer1_clipped", 0, "Add", 1.0), "inserted"),
    "a difference behind a MatMul": (insert_constant("layer1_clipped", 0, "Sub", 1.0), "inserted"),
    "a factor behind a MatMul": (insert_constant("layer1_clipped", 0, "Mul", 0.5), "inserted"),
    "a quotient behind a MatMul": (insert_constant("layer1_clipped", 0, "Div", 2.0), "inserted"),
    "a factor before a MatMul": (insert_constant("layer1", 1, "Mul", 0.5), "layer1"),
    "members of another number": (lambda graph: change(graph, "layer1_weight", lambda w: w[:1]), "layer1"),
    "members cut along the rows": (lambda graph: change(graph, "members_shape", np.flip), "members"),
    "members' rows made fewer": (
        lambda graph: change(graph, "members_shape", lambda shape: shape * [1, 2, 1]),
        "members",
    ),
    "members joined along the rows": (lambda graph: change(graph, "flat_shape", np.flip), "flat"),
    "a depth's maximum over the rows": (alter("hidden_max", axes=[1]), "hidden_max"),
    "a depth's maximum over everything": (alter("hidden_max_2", axes=[0, 1, 2]), "hidden_max_2"),
    "the flag before the rows": (lambda graph: change(graph, "flag_axis", np.zeros_like), "saturated_column"),
    "an output with its rows last": (
        lambda graph: node(graph, "saturated").input.__setitem__(0, rows_last(graph)),
        "saturated",
    ),
    "alpha": (alter("layer0", alpha=0.5), "layer0"),
    "beta": (alter("layer2", beta=2.0), "layer2"),
    "no bias": (drop_bias, "layer0"),
    "the input's Round removed": (lambda graph: bypass(graph, "input_rounded"), "layer0"),
    "a hidden Round removed": (lambda graph: bypass(graph, "layer0_rounded"), "layer1"),
    "a hidden Clip removed": (lambda graph: bypass(graph, "layer0_clipped"), "layer1"),
    "a hidden Clip widened": (
        lambda graph: change(graph, "layer0_most", lambda limit: limit * 64.0),
        "layer1",
    ),
    "a hidden Clip's limit that is NaN": (
        lambda graph: change(graph, "layer0_most", lambda limit: limit * np.nan),
        "layer0_clipped",
    ),
    "an input unclipped": (lambda graph: bypass(graph, "scaled"), "layer0"),
    "an input unclipped before its square": (lambda graph: bypass(graph, "finite"), "scaled"),
    "bins unclipped": (lambda graph: bypass(graph, "binned"), "layer0"),
    "bins in steps too fine": (lambda graph: change(graph, "bin_bound_high", lambda limit: limit * 64.0), "layer0"),
    "a reach of 0": (lambda graph: set_entry(graph, "scaling_reach", 0, 0.0), "scaling_share"),
    "the IsNaN guard removed": (lambda graph: bypass(graph, "filled", 2), "dates_near"),
    "the IsNaN guard turned round": (swap("filled", "Add"), "filled"),
    "the guard of another tensor": (lambda graph: insert(graph, "filled", "Not"), "dates_near"),
    "a fill that is NaN": (lambda graph: set_entry(graph, "fill", 0, np.nan), "finite"),
    "the codes' Clip removed": (lambda graph: bypass(graph, "code_near"), "chunk_row"),
    "the codes' Clip widened": (lambda graph: change(graph, "code_most", lambda most: most + 1), "chunks"),
    "a chunk's base beyond the table": (lambda graph: set_entry(graph, "chunk_base", -1, 10_000), "chunks"),
    "a chunk's base before the table": (lambda graph: set_entry(graph, "chunk_base", 0, -1), "chunks"),
    "chunks joined along the rows": (lambda graph: change(graph, "category_shape", np.flip), "categories"),
    "a category that is NaN": (lambda graph: set_entry(graph, "category_table", (3, 1), np.nan), "layer0"),
    "a category beyond its range": (lambda graph: set_entry(graph, "category_table", (3, 1), 2.0**60), "layer0"),
    "an infinity in a picked column": (
        lambda graph: node(graph, "bin_picked").input.__setitem__(0, "filled"),
        "bin_picked",
    ),
    "two columns in one": (lambda graph: set_entry(graph, "bin_pick", (1, 0), 1.0), "bin_picked"),
    "a logarithm's table too short": (lambda graph: change(graph, "exp_table", lambda table: table[:-1]), "exp_coarse"),
    "a table entry that is NaN": (lambda graph: set_entry(graph, "exp_table", 7, np.nan), "exp_sum"),
    "the copy for the sum unrounded": (lambda graph: bypass(graph, "exp_whole"), "exp_sum"),
    "the softmax's reach unclipped": (lambda graph: bypass(graph, "score_reach"), "exp_coarse"),
    "the divisor's floor removed": (lambda graph: bypass(graph, "exp_sum_positive"), "softmax"),
    "a quotient as a product with an inverse": (divide_then_multiply, "inverse"),
    "the series' Add a Pow": (swap("series_plus_2", "Pow"), "series_plus_2"),
    "Round as Ceil": (swap("layer0_rounded", "Ceil"), "layer0_rounded"),
    "Clip as Relu": (swap("layer0_clipped", "Relu"), "layer0_clipped"),
    "a Softplus": (lambda graph: insert(graph, "layer1", "Softplus", 1), "inserted"),
    "a Tanh": (lambda graph: insert(graph, "scaled", "Tanh"), "inserted"),
    "a batched product": (swap("layer0", "MatMul"), "layer0"),
    "a foreign operator": (
        lambda graph: setattr(node(graph, "layer0"), "domain", "com.microsoft"),
        "layer0",
    ),
    "float32 in the middle": (
        lambda graph: insert(graph, "layer1", "Cast", 1, to=TensorProto.FLOAT),
        "layer1",
    ),
    "float32 and back": (narrow_and_widen, "wide"),
    "float16": (lambda graph: insert(graph, "layer1", "Cast", 1, to=TensorProto.FLOAT16), "inserted"),
    "a number cast to integers that do not hold it": (
        lambda graph: insert(graph, "exp_whole", "Cast", to=TensorProto.INT32),
        "inserted",
    ),
    "an output unsettled": (unsettled, "scores_single"),
    "an output settled too early": (settled_early, "late"),
    "an output settled by -0.0": (add_to_nothing, "probabilities"),
    "an output settled by a product": (swap("probabilities", "Mul"), "probabilities"),
    "a maximum over the rows": (alter("score_max", axes=[0]), "score_max"),
    "a sum over the rows": (lambda graph: change(graph, "class_axis", np.zeros_like), "exp_sum"),
    "a constant along the rows": (one_row_bias, "scaling_away"),
    "columns side by side along the rows": (alter("input", axis=0), "input"),
    "rows turned into columns": (
        lambda graph: insert(graph, "layer1", "Transpose", 1, perm=[1, 0, 2]),
        "inserted",
    ),
}


def test_an_exact_graph_is_certified(certified: onnx.ModelProto) -> None:
    """Export's graph passes, and its certificate lists every sum with a margin of at most 53 bits."""
    certificate = prove(certified.SerializeToString())
    assert [each["node"] for each in certificate["sums"]].count("exp_sum") == 1
    assert [each["operator"] for each in certificate["sums"]] == ["Gemm", "MatMul", "Gemm", "ReduceSum"]
    assert all(0.0 <= each["margin_bits"] <= 53.0 for each in certificate["sums"])
    assert certificate["least_margin_bits"] == pytest.approx(min(each["margin_bits"] for each in certificate["sums"]))
    assert "layer2" in page(certificate)


@pytest.mark.parametrize("name", MUTATIONS)
def test_one_alteration_is_refused_at_its_node(certified: onnx.ModelProto, name: str) -> None:
    """A certified graph that is altered in one way is refused, and the error names the node that breaks."""
    mutate, wanted = MUTATIONS[name]
    altered = onnx.ModelProto()
    altered.CopyFrom(certified)
    mutate(altered.graph)
    with pytest.raises(ProofError) as refusal:
        prove(altered.SerializeToString())
    assert refusal.value.node == wanted, str(refusal.value)


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda model: model.graph.output.pop(), "no output"),
        (lambda model: setattr(model.opset_import[0], "version", 18), "operator set 18"),
        (lambda model: model.graph.input[0].type.tensor_type.shape.dim[0].__setattr__("dim_value", 8), "rows free"),
        (lambda model: model.graph.node.pop(0), "nothing before it writes"),
        (lambda model: model.graph.node.append(model.graph.node[-1]), "defined twice"),
        (lambda model: setattr(model.graph.initializer[0], "data_location", 1), "outside the file"),
    ],
)
def test_a_graph_of_another_form_is_refused(
    certified: onnx.ModelProto, edit: Callable[[onnx.ModelProto], None], words: str
) -> None:
    """What is not one plain graph [rows, width] -> [rows, …] of operator sets 13 to 17 is refused by name."""
    altered = onnx.ModelProto()
    altered.CopyFrom(certified)
    while words == "no output" and len(altered.graph.output) > 1:
        edit(altered)
    edit(altered)
    with pytest.raises(ProofError, match=words):
        prove(altered.SerializeToString())


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("widths", [(), (5,), (24, 17, 9)])
def test_every_kind_of_network_is_certified(task: str, widths: tuple[int, ...]) -> None:
    """Every task is certified, without hidden layers, with one and with several."""
    for members in (1, 3):
        net = make_net(task, widths=widths, members=members)
        prove(exact_graph(net.folded, net.preprocess, net.maxima).model("exact").SerializeToString())


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_tables_of_one_kind_of_column_are_certified(kind: str) -> None:
    """A table with only numeric or only categorical columns is certified."""
    net = make_net(numeric=kind == "numeric", categorical=kind == "categorical")
    prove(exact_graph(net.folded, net.preprocess, net.maxima).model("exact").SerializeToString())


def test_the_prover_knows_nothing_of_training() -> None:
    """Importing the prover loads onnx and numpy, and no other part of this project, no engine and no torch."""
    script = "import sys, batchproof.training.prove; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    ours = [name for name in loaded if name.startswith(("batchproof.", "torch", "onnxruntime"))]
    assert {name for name in ours if not name.startswith("batchproof.training.prove")} == {"batchproof.training"}
