"""Build an ONNX graph node by node: each call appends one node and returns the name of its output."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchproof.service.bundle.graph.check import IR_VERSION, OPSET


class Graph:
    """An ONNX graph under construction, with self-explanatory names."""

    def __init__(self) -> None:
        """Start with no node, no weight, no input and no output."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._taken: set[str] = set()

    def input(self, name: str, elem_type: int, width: int) -> str:
        """Declare a graph input [rows, width]."""
        self.inputs.append(helper.make_tensor_value_info(self._name(name), elem_type, ["rows", width]))
        return name

    def output(self, name: str, source: str, elem_type: int, width: int) -> None:
        """Declare `source` as the graph output `name` [rows, width]."""
        self.nodes.append(helper.make_node("Identity", [source], [self._name(name)], name=name))
        self.outputs.append(helper.make_tensor_value_info(name, elem_type, ["rows", width]))

    def output_itself(self, name: str, source: str, elem_type: int, width: int) -> None:
        """Declare the result `source` of a node as the graph output `name` [rows, width]; `source` has this name from now on.

        Engines keep the Identity of `output` where another node reads its source too.
        """
        self._name(name)
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if each == source else each for each in names]
        self.outputs.append(helper.make_tensor_value_info(name, elem_type, ["rows", width]))

    def output_without_negative_zero(self, name: str, source: str, elem_type: int, width: int) -> None:
        """Declare `source` + 0.0 as the floating-point graph output `name` [rows, width]: it has no -0.0.

        The Add writes the output itself: engines remove an Add of zero whose result another node reads.
        """
        zero = self.constant(f"{name}_zero", np.zeros(width, helper.tensor_dtype_to_np_dtype(elem_type)))
        self.nodes.append(helper.make_node("Add", [source, zero], [self._name(name)], name=name))
        self.outputs.append(helper.make_tensor_value_info(name, elem_type, ["rows", width]))

    def constant(self, name: str, value: np.ndarray | float, dtype: type | None = None) -> str:
        """Store an initializer and return its (possibly numbered) name."""
        name = self._name(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append one node with one output; the output is named after the node."""
        name = self._name(name)
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def model(self, name: str) -> onnx.ModelProto:
        """Return the checked model. Raises onnx.checker.ValidationError for an invalid graph."""
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="batchproof"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


__all__ = ["Graph", "TensorProto"]
