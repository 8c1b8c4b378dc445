"""Triton's configuration of a bundle's graph, config.pbtxt, in the text format of its ModelConfig."""

import json
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Tensor

TYPES = {"float32": "TYPE_FP32", "float64": "TYPE_FP64", "int64": "TYPE_INT64", "bool": "TYPE_BOOL"}
MOST_ROWS = 1024  # of a batch that Triton makes of an exact model
LABELS = "labels.txt"


class WarmUp(NamedTuple):
    """A request that Triton runs before a model is ready: {input: file in the folder `warmup`} with so many rows."""

    name: str
    files: dict[str, str]
    rows: int


def model_config(
    manifest: Manifest, warm_ups: Sequence[WarmUp], kind: Literal["cpu", "gpu"] = "cpu", *, labels: bool = False
) -> str:
    """Return config.pbtxt.

    With max_batch_size 0 Triton joins no requests, and each runs as it came: so float32 models are configured, whose rows
    may change with their batch. Left out, Triton would add a batcher of its own. Exact models have one.
    """
    is_exact = manifest.arithmetic.kind == "exact"
    lines = [
        f"name: {_text(manifest.name)}",
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {MOST_ROWS if is_exact else 0}",
        f"version_policy {{ specific {{ versions: {manifest.version} }} }}",
        *(_tensor("input", tensor, is_exact) for tensor in manifest.signature.tensors),
        *(_tensor("output", tensor, is_exact, labels=labels) for tensor in manifest.outputs),
        f"instance_group {{ kind: KIND_{kind.upper()} count: 1 }}",
        *(["dynamic_batching { max_queue_delay_microseconds: 0 }"] if is_exact else []),
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }',
        *(_warm_up(warm_up, manifest.signature.tensors, is_exact) for warm_up in warm_ups),
    ]
    return "\n".join(lines) + "\n"


def _tensor(field: str, tensor: Tensor, is_batched: bool, *, labels: bool = False) -> str:  # noqa: FBT001 - of this file only
    named = f" label_filename: {_text(LABELS)}" if labels and tensor.name == "probabilities" else ""
    dims = _dims([tensor.width] if is_batched else [-1, tensor.width])
    return f"{field} {{ name: {_text(tensor.name)} data_type: {TYPES[tensor.dtype]} {dims}{named} }}"


def _warm_up(warm_up: WarmUp, tensors: Iterable[Tensor], is_batched: bool) -> str:  # noqa: FBT001 - of this file only
    """Return a request; where Triton batches, it repeats the one row of each file, else a file has all rows."""
    inputs = []
    for tensor in tensors:
        dims = _dims([tensor.width] if is_batched else [warm_up.rows, tensor.width])
        file = f"input_data_file: {_text(warm_up.files[tensor.name])}"
        inputs.append(
            f"inputs {{ key: {_text(tensor.name)} value {{ data_type: {TYPES[tensor.dtype]} {dims} {file} }} }}"
        )
    batch = warm_up.rows if is_batched else 1
    return f"model_warmup {{ name: {_text(warm_up.name)} batch_size: {batch} {' '.join(inputs)} }}"


def _dims(lengths: Sequence[int]) -> str:
    return f"dims: [ {', '.join(map(str, lengths))} ]"


def _text(value: str) -> str:
    return json.dumps(value)  # names here are ASCII without quotes: NAME_PATTERN, and our own
