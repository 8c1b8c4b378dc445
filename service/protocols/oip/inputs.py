"""Tensors of the Open Inference Protocol to the model's arrays: the matrix `features`, or one tensor a feature.

The sentences are the ones that clients of Triton know. A missing value is NaN in a floating-point tensor, null in JSON,
and a BYTES element equal to the text that the request's parameter `missing_text` names (service/protocols/oip/texts.py).
"""

from collections.abc import Mapping

import numpy as np

from batchproof.service import errors
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Feature
from batchproof.service.errors import FeatureError, ServiceError
from batchproof.service.features.arrays import Arrays, split
from batchproof.service.features.columns import encode_column
from batchproof.service.protocols.oip.tensors import Elements, Tensor, refuse
from batchproof.service.protocols.oip.texts import present_texts

MATRIX = "features"
NAME_CHARACTERS = 80  # of an unknown name that are repeated to the caller


class Inputs:
    """The signature, arranged for tensors."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare the names that a request may use."""
        self._signature = manifest.signature
        self._model = manifest.name
        self.names = [feature.name for feature in manifest.signature.inputs]
        self.takes_matrix = takes_matrix(manifest)
        self.has_booleans = any(feature.value_type == "boolean" for feature in manifest.signature.inputs)
        self._has_rules = any(feature.text_rule for feature in manifest.signature.inputs)
        self._known = {*self.names, MATRIX} if self.takes_matrix else set(self.names)

    def check_name(self, name: object, given: Mapping[str, Tensor]) -> str:
        """Return the name of an input that the model has and the request has not had yet; raises 400."""
        if not isinstance(name, str):
            raise refuse("every input needs a 'name'")
        if name not in self._known:
            near = errors.nearest(name[:NAME_CHARACTERS], self.names)
            raise refuse(f"unexpected inference input '{name[:NAME_CHARACTERS]}' for model '{self._model}'.{near}")
        if name in given:
            raise refuse(f"input '{name}' is given twice")
        return name

    def arrays(self, given: Mapping[str, Tensor], missing_text: str | None = None) -> tuple[Arrays, int]:
        """Return the model's arrays and how many rows they hold; raises 400.

        BYTES elements equal to `missing_text` are missing values.
        """
        if MATRIX in given and self.takes_matrix:
            if len(given) > 1:
                raise refuse(f"send input '{MATRIX}' or one input for each feature, not both")
            return self._matrix(given[MATRIX])
        missing = [name for name in self.names if name not in given]
        if missing:
            raise refuse(
                f"expected {len(self.names)} inputs but got {len(given)} inputs for model '{self._model}'. "
                f"Missing required input(s) {missing[:10]}"
            )
        rows = given[self.names[0]].shape[0]
        columns = [self._column(feature, given[feature.name], rows, missing_text) for feature in self._signature.inputs]
        return split(self._signature, np.stack(columns, axis=1)), rows

    def _matrix(self, tensor: Tensor) -> tuple[Arrays, int]:
        if tensor.datatype in ("BYTES", "BOOL"):
            raise _wrong_type(tensor, "FP64")
        if len(tensor.shape) != 2 or tensor.shape[1] != len(self.names):
            raise self._wrong_shape(tensor, f"[-1,{len(self.names)}]")
        numbers = np.asarray(_missing_as_nan(tensor.elements), np.float64).reshape(tensor.shape)
        is_plain = np.isfinite(numbers).all() and not self._has_rules  # NaN is right for some features
        if is_plain and not self.has_booleans:
            return Arrays(numbers, None), len(numbers)
        columns = [
            column if is_plain and feature.value_type != "boolean" else _encoded(feature, np.ascontiguousarray(column))
            for feature, column in zip(self._signature.inputs, numbers.T, strict=True)
        ]
        if self._has_rules:
            numbers = np.stack(columns, axis=1)
        return Arrays(numbers, None), len(numbers)

    def _column(self, feature: Feature, tensor: Tensor, rows: int, missing_text: str | None) -> np.ndarray:
        if tensor.shape not in ((rows,), (rows, 1)):
            raise self._wrong_shape(tensor, f"[{rows},1]")
        if (tensor.datatype == "BYTES") != (datatype_of(feature) == "BYTES"):
            raise _wrong_type(tensor, datatype_of(feature))
        elements = tensor.elements if tensor.datatype != "BYTES" else present_texts(feature, tensor, missing_text)
        return _encoded(feature, elements)

    def _wrong_shape(self, tensor: Tensor, expected: str) -> ServiceError:
        got = str(list(tensor.shape)).replace(" ", "")
        return refuse(
            f"unexpected shape for input '{tensor.name}' for model '{self._model}'. Expected {expected}, got {got}"
        )


def takes_matrix(manifest: Manifest) -> bool:
    """Return whether rows may come as one matrix: every feature is numeric, and none is itself named like it."""
    inputs = manifest.signature.inputs
    return all(feature.kind == "numeric" and feature.name != MATRIX for feature in inputs)


def datatype_of(feature: Feature) -> str:
    """Return the datatype that metadata gives for a feature's own tensor; other numeric datatypes are accepted too."""
    if feature.kind == "numeric":
        return "BOOL" if feature.value_type == "boolean" and not feature.missing else "FP64"
    return {"integer": "INT64", "boolean": "BOOL"}.get(feature.value_type, "BYTES")


def _wrong_type(tensor: Tensor, expected: str) -> ServiceError:
    return refuse(f"inference input data-type is '{tensor.datatype}', model expects '{expected}' for '{tensor.name}'")


def _missing_as_nan(elements: Elements) -> Elements:
    if isinstance(elements, np.ndarray):
        return elements
    return [np.nan if element is None else element for element in elements]


def _encoded(feature: Feature, elements: Elements) -> np.ndarray:
    try:
        return encode_column(feature, elements)
    except FeatureError as error:
        raise refuse(str(error)) from error
