"""Golden rows: synthetic rows with the bits that the exporting host got, reproduced before a model is ready."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchproof.service.bundle.files import strict_json
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Tensor
from batchproof.service.errors import BundleError

MIN_ROWS = 32
MAX_ROWS = 4096
ABSOLUTE = 1e-5  # float32 bundles: |computed - stored| <= ABSOLUTE + RELATIVE * |stored|
RELATIVE = 1e-5


@dataclass(frozen=True)
class Golden:
    """Rows of JSON values in signature order, and every output of the graph for them."""

    rows: list[list[Any]]  # [rows][features]
    outputs: dict[str, np.ndarray]  # each [rows, width], in its own dtype


def parse(raw: bytes, manifest: Manifest) -> Golden:
    """Read golden.json against the manifest; raises BundleError naming the field that is wrong."""
    try:
        content = strict_json.loads(raw)
    except ValueError as error:
        raise BundleError(f"golden.json {error}") from error
    if not isinstance(content, dict) or set(content) != {"rows", "outputs"}:
        raise BundleError("golden.json must be an object with exactly the fields rows and outputs")
    rows = _rows(content["rows"], len(manifest.signature.inputs))
    wanted = {tensor.name: tensor for tensor in manifest.outputs}
    stored = content["outputs"]
    if not isinstance(stored, dict) or set(stored) != set(wanted):
        raise BundleError(f"golden.json outputs must be exactly {', '.join(wanted)}")
    return Golden(rows, {name: _output(stored[name], wanted[name], len(rows)) for name in wanted})


def check(golden: Golden, computed: Mapping[str, np.ndarray], *, exact: bool) -> None:
    """Compare this host's outputs with the stored ones: bits where `exact`, else float32 within the tolerance.

    Raises BundleError naming the first row and output that differ.
    """
    for name, stored in golden.outputs.items():
        wrong = _differs(stored, computed[name], exact=exact or stored.dtype == np.bool_)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise BundleError(
                f"golden row {row} gives {name}[{column}] = {computed[name][row, column]!s} on this host, but golden.json "
                f"has {stored[row, column]!s} ({'the bits must be equal' if exact else 'tolerance 1e-5 + 1e-5·|value|'})"
            )


def _differs(stored: np.ndarray, computed: np.ndarray, *, exact: bool) -> np.ndarray:
    if exact:
        size = stored.dtype.itemsize
        as_bytes = (
            np.ascontiguousarray(array).view(np.uint8).reshape(*stored.shape, size) for array in (stored, computed)
        )
        differs: np.ndarray = np.any(np.not_equal(*as_bytes), axis=-1)
        return differs
    gap = np.abs(computed.astype(np.float64) - stored)
    near: np.ndarray = gap <= ABSOLUTE + RELATIVE * np.abs(stored.astype(np.float64))
    return ~near  # NaN is near nothing


def _rows(rows: Any, features: int) -> list[list[Any]]:
    if not isinstance(rows, list) or not MIN_ROWS <= len(rows) <= MAX_ROWS:
        raise BundleError(f"golden.json rows must be a list of {MIN_ROWS} to {MAX_ROWS} rows")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != features:
            raise BundleError(f"golden.json row {number} must be a list of {features} values")
    return rows


def _output(stored: Any, wanted: Tensor, rows: int) -> np.ndarray:
    field = f"golden.json outputs.{wanted.name}"
    if not isinstance(stored, dict) or set(stored) != {"dtype", "shape", "hex"}:
        raise BundleError(f"{field} must be an object with exactly the fields dtype, shape and hex")
    if stored["dtype"] != wanted.dtype or stored["shape"] != [rows, wanted.width]:
        raise BundleError(f"{field} must have dtype {wanted.dtype} and shape [{rows}, {wanted.width}]")
    dtype = np.dtype(wanted.dtype).newbyteorder("<")
    digits = stored["hex"]
    if not isinstance(digits, str) or len(digits) != 2 * rows * wanted.width * dtype.itemsize:
        raise BundleError(f"{field}.hex must be {rows * wanted.width} values of {dtype.itemsize} bytes as hex digits")
    try:
        values = np.frombuffer(bytes.fromhex(digits), dtype).reshape(rows, wanted.width)
    except ValueError as error:
        raise BundleError(f"{field}.hex is not hex digits") from error
    if wanted.dtype == "bool" and np.frombuffer(values, np.uint8).max(initial=0) > 1:
        raise BundleError(f"{field} holds a truth value other than 0 and 1")
    if not np.isfinite(values).all():
        raise BundleError(f"{field} holds NaN or infinity")
    return values.astype(wanted.dtype)
