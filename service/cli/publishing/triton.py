"""A model repository of Triton Inference Server, made from a bundle."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from batchproof.service.bundle import reader
from batchproof.service.bundle.documents.triton_config import LABELS, WarmUp, model_config
from batchproof.service.bundle.reader import Bundle
from batchproof.service.bundle.signature import class_text
from batchproof.service.errors import BundleError
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.stores.cache import unfinished

WARM_ROWS = (1, 64)  # of an exact model's requests; another's have one golden row, and all of them
README = """\
# {name}, version {version}, in Triton

`model.onnx` is the graph of a Batchproof bundle in {kind} arithmetic (`sha256` {seal}). Its inputs are numbers and codes: `bundle.json`
lists the features and categories in order. Numbers and dates (seconds since 1970, UTC) are columns of `numeric`, NaN where one is missing. A
category's code is its place in the list; a missing value has the code after the last, and any other value the one after that.

{promise}

Triton checks neither the seal nor golden rows. Check the running server, whichever versions, device and settings it has:

    batchproof verify --url http://localhost:8000/v2/models/{name}

It sends rows alone, in batches, and from many callers at once, and compares every bit.
"""
EXACT = """\
The arithmetic is exact: each row has the same bits in every batch, so Triton's dynamic batcher is on. A change of `max_batch_size`, of the
queue's delay or of the number of instances changes no bit."""
FLOAT32 = """\
The arithmetic is float32: a row's last bits may depend on its batch. `max_batch_size: 0` keeps Triton from joining requests, so a request
gets the same bits whoever else calls; rows of one request are a batch. Do not remove it: without it Triton turns a batcher on. Send rows
alone where bits matter, or train with `--arithmetic exact`."""


def write(bundle: Bundle, repository: Path, device: Literal["cpu", "gpu"]) -> Path:
    """Write the model's folder, whole or not at all, and return it; raises BundleError or OSError."""
    target = repository / bundle.manifest.name
    if target.exists():
        raise BundleError(f"{target} exists already: remove it, or choose another repository")
    repository.mkdir(parents=True, exist_ok=True)
    with unfinished(repository) as part:
        part.chmod(0o755)
        for name, content in _files(bundle, device):
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(content)
        part.rename(target)
    return target


def _files(bundle: Bundle, device: Literal["cpu", "gpu"]) -> Iterator[tuple[str, bytes]]:
    manifest = bundle.manifest
    labels = [class_text(label) for label in manifest.signature.classes or ()]
    has_labels = bool(labels) and all(label.isprintable() for label in labels)  # a line each
    yield f"{manifest.version}/model.onnx", bundle.model
    if has_labels:
        yield LABELS, "".join(f"{label}\n" for label in labels).encode()
    warm_ups = []
    for warm_up, files in _warm_ups(bundle):
        warm_ups.append(warm_up)
        yield from ((f"warmup/{name}", content) for name, content in files.items())
    yield "config.pbtxt", model_config(manifest, warm_ups, device, labels=has_labels).encode()
    is_exact = manifest.arithmetic.kind == "exact"
    readme = README.format(
        name=manifest.name, version=manifest.version, kind=manifest.arithmetic.kind, seal=manifest.sha256,
        promise=EXACT if is_exact else FLOAT32,
    )  # fmt: skip
    yield "README.md", readme.encode()
    for name in ("bundle.json", "golden.json"):
        yield name, reader.file(bundle, name)


def _warm_ups(bundle: Bundle) -> Iterator[tuple[WarmUp, dict[str, bytes]]]:
    """Give the requests with their files: little-endian numbers, row by row."""
    signature, is_exact = bundle.manifest.signature, bundle.manifest.arithmetic.kind == "exact"
    encoded = Encoder(signature).encode_rows(bundle.golden.rows)
    if encoded.errors:
        raise BundleError("the golden rows do not fit the signature")
    for rows in WARM_ROWS if is_exact else (1, len(bundle.golden.rows)):
        files = {tensor.name: f"golden-{rows}-{tensor.name}" for tensor in signature.tensors}
        sent = 1 if is_exact else rows
        arrays = encoded.arrays.take(slice(sent))._asdict()
        yield (
            WarmUp(f"golden-{rows}", files, rows),
            {file: _little_endian(arrays[name]) for name, file in files.items()},
        )


def _little_endian(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()
