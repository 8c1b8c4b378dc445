"""Every way in which numbers of a model leave a service: protocols, tables and what the client makes of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from batchproof.service.client.codecs.frame_codec import _columns
from batchproof.service.client.codecs.tensors import unpacked
from batchproof.service.client.messages import Response
from batchproof.service.client.model import Description, described
from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.model import Model
from batchproof.service.protocols.cloud.npy import array_of
from batchproof.service.protocols.cloud.protocol import ScoringCodec
from batchproof.service.protocols.interface import Call, Decoded, Limits
from batchproof.service.protocols.json_text.prediction_text import PredictionText
from batchproof.service.protocols.oip.metadata import outputs_of
from batchproof.service.protocols.oip.protocol import output_names
from batchproof.service.protocols.oip.request import Wanted
from batchproof.service.protocols.oip.response import ResponseWriter
from batchproof.service.server.grpc.messages import classes
from batchproof.service.server.grpc.tensors import Asked, Tensors
from batchproof.service.tables.parameters import Parameters
from batchproof.service.tables.writers.arrow import ResultArrays
from batchproof.service.tables.writers.result_columns import Answered, ResultColumns


class TwoRows:
    """A block of a table, as far as the writers look at it."""

    rows, csv_delimiter = 2, ","


@dataclass(frozen=True)
class WaysOut:
    """The numbers of two rows, [2, numbers] each, as every way gives them."""

    model: Model
    outputs: Outputs  # of the two rows
    names: Sequence[str]  # of the columns of a table
    named: Callable[[list[dict[str, Any]]], np.ndarray]  # predictions by name as rows of numbers; holds the names
    known: Mapping[str, Any]  # what the client is told of this kind of model

    def answered(self) -> Answered:
        """Return the two rows as a table's writer gets them."""
        return Answered(TwoRows(), range(2), self.outputs, [])  # type: ignore[arg-type]

    def decoded(self) -> np.ndarray:
        """Return the numbers of the decoder."""
        return self.named(self.model.decoder.decode(self.outputs))

    def json(self) -> np.ndarray:
        """Return the numbers of JSON."""
        return self.named(orjson.loads(b"[" + PredictionText(self.model.manifest).write(self.outputs) + b"]"))

    def scored(self, form: str) -> bytes:
        """Return the body of a cloud platform's answer."""
        decoded = Decoded(None, 2, form)  # type: ignore[arg-type]
        return bytes(ScoringCodec(self.model, Limits()).encode(Call(b"", [], "x"), decoded, self.outputs).body)

    def scoring_csv(self) -> np.ndarray:
        """Return the numbers of SageMaker's CSV."""
        return np.array([line.split(",") for line in self.scored("csv").decode().splitlines()], np.float32)

    def npy(self) -> np.ndarray:
        """Return the numbers of a NumPy file."""
        return array_of(self.scored("npy"))

    def infer(self, *, is_binary: bool) -> Response:
        """Return the whole answer of the Open Inference Protocol."""
        wanted = Wanted(None, [(name, is_binary) for name in output_names(self.model.manifest)])
        answer = ResponseWriter(self.model.manifest).write(Call(b"", [], "x"), wanted, self.outputs)
        return Response(200, {name.decode(): value.decode() for name, value in answer.headers}, bytes(answer.body))

    def oip(self) -> np.ndarray:
        """Return the numbers of its JSON, in outputs whose names, types and widths are those of the metadata."""
        outputs = json.loads(self.infer(is_binary=False).body)["outputs"]
        shown = [{"name": one["name"], "datatype": one["datatype"], "shape": [-1, one["shape"][1]]} for one in outputs]
        assert shown == outputs_of(self.model.manifest)
        return np.concatenate([np.array(one["data"], np.float32).reshape(one["shape"]) for one in outputs], axis=1)

    def client_tensors(self) -> np.ndarray:
        """Return the columns that the client makes of its binary tensors."""
        return self.columns(unpacked(self.infer(is_binary=True), self.description()))

    def client_rows(self) -> np.ndarray:
        """Return the columns that the client makes of a native answer."""
        return self.columns(_columns(self.model.decoder.decode(self.outputs), self.description()))

    def columns(self, found: dict[str, Any]) -> np.ndarray:
        """Return columns as rows of numbers, and hold their names."""
        assert list(found) == list(self.names)
        return np.stack(list(found.values()), axis=1)

    def description(self) -> Description:
        """Return what the client knows of the model."""
        manifest = self.model.manifest
        content = {"name": manifest.name, "version": 1, "task": manifest.task, "metrics": {}, "fingerprint": {}}
        return described(Response(200, {}, json.dumps({**content, **self.known}).encode()))

    def grpc(self) -> np.ndarray:
        """Return the numbers of gRPC."""
        names = output_names(self.model.manifest)
        message = Tensors(self.model.manifest, classes(), 100).write(Asked("", False, names), self.outputs)
        parts = [np.array(one.contents.fp32_contents, np.float32).reshape(list(one.shape)) for one in message.outputs]
        return np.concatenate(parts, axis=1)

    def text_table(self) -> np.ndarray:
        """Return the columns of a text table."""
        added = ResultColumns(self.model.manifest, Parameters())
        assert added.names == list(self.names)
        return np.array(added.cells(self.answered()), np.float32)

    def arrow(self) -> np.ndarray:
        """Return the columns of Arrow and Parquet."""
        arrays = ResultArrays(self.model.manifest, Parameters()).arrays(self.answered())
        return np.stack([array.to_numpy() for array in arrays], 1)


WAYS: list[Callable[[WaysOut], np.ndarray]] = [
    *(WaysOut.decoded, WaysOut.json, WaysOut.scoring_csv, WaysOut.npy, WaysOut.oip, WaysOut.client_tensors),
    *(WaysOut.client_rows, WaysOut.grpc, WaysOut.text_table, WaysOut.arrow),
]
