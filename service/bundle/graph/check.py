"""model.onnx read before the engine sees it: nothing hidden in it, and its ends are what the signature says.

The engine would run custom code for a foreign domain, and open files for external data; neither gets that far.
"""

from collections.abc import Iterable

from batchproof.service.bundle.graph import fields as schema
from batchproof.service.bundle.graph import nodes
from batchproof.service.bundle.graph.nodes import End, Graph
from batchproof.service.bundle.graph.protobuf import Message
from batchproof.service.bundle.graph.values import check_values
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Tensor
from batchproof.service.errors import BundleError

IR_VERSION = 8
OPSET = 17


def check(model: bytes, manifest: Manifest) -> Graph:
    """Return the graph, or refuse what a bundle's may not hold, and ends that are not the manifest's.

    Raises BundleError.
    """
    try:
        graph = nodes.read(_graph(Message(memoryview(model), "model", schema.MODEL)))
        _check_ends("input", graph.inputs, manifest.signature.tensors)
        _check_ends("output", graph.outputs, manifest.outputs)
        check_values(graph)
    except ValueError as error:
        raise BundleError(f"model.onnx: {error}") from error
    return graph


def _graph(model: Message) -> Message:
    opsets = model.messages("opset_import", "opset import", schema.OPSET)
    imported = [(opset.text("domain"), opset.number("version")) for opset in opsets]
    if len(imported) != 1 or imported[0][0] not in schema.DEFAULT_DOMAIN or imported[0][1] != OPSET:
        raise ValueError(
            f"it imports the operator sets {imported!s:.200}; a bundle uses version {OPSET} of the default one"
        )
    if model.number("ir_version") != IR_VERSION:
        raise ValueError(f"it has IR version {model.number('ir_version')}; a bundle has {IR_VERSION}")
    for graph in model.messages("graph", "graph", schema.GRAPH):
        return graph
    raise ValueError("it has no graph")


def _check_ends(side: str, ends: Iterable[End], signature: Iterable[Tensor]) -> None:
    present = sorted(map(str, ends))
    wanted = sorted(f"{tensor.name} [rows, {tensor.width}] {tensor.dtype}" for tensor in signature)
    if present != wanted:
        text = "; ".join(present)
        raise ValueError(f"the graph's {side}s are {text:.1000}, but bundle.json asks for {'; '.join(wanted)}")
