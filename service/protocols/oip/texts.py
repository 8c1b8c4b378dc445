"""What an element of a BYTES tensor says: a text, or that a value is missing.

JSON has null for a missing value, so an empty text in it is a text. The binary form and gRPC have nothing but texts: the
request's parameter `missing_text` names the one that stands for a missing value. Without it an empty element could mean
either, and is refused unless "" is a category of the feature. MLServer's `content_type` "base64" is decoded.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from batchproof.service.bundle.signature import Feature
from batchproof.service.protocols.oip.tensors import Tensor, refuse

MISSING_TEXT = "missing_text"
CONTENT_TYPE = "content_type"
AS_THEY_ARE = ("str", "np", "pd", "datetime")  # content types whose elements are the texts themselves


def missing_text_of(parameters: Mapping[str, Any]) -> str | None:
    """Return the text that stands for a missing value, None where the request names none; raises 400."""
    text = parameters.get(MISSING_TEXT)
    if text is not None and not isinstance(text, str):
        raise refuse(f"parameter '{MISSING_TEXT}' must be a string: the BYTES element that means a missing value")
    return text


def present_texts(feature: Feature, tensor: Tensor, missing_text: str | None) -> list[str | None]:
    """Return the texts of a BYTES tensor, None where a value is missing; raises 400 for an ambiguous element."""
    if missing_text is not None:
        return [None if element == missing_text else element for element in tensor.elements]
    elements = list(tensor.elements)
    if not tensor.has_null and "" in elements and "" not in (feature.categories or ()):
        raise refuse(
            f"input '{tensor.name}': element {elements.index('')} is empty, which may mean a missing value or an empty "
            f"text. Name the element that means a missing value in the request's parameter '{MISSING_TEXT}', "
            f'such as {{"{MISSING_TEXT}": ""}}'
        )
    return elements


def decoded_texts(tensor: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """Return the tensor with its elements decoded as the parameter `content_type` says; raises 400."""
    content_type = parameters.get(CONTENT_TYPE)
    if content_type is None or tensor.datatype != "BYTES" or content_type in AS_THEY_ARE:
        return tensor
    if content_type != "base64":
        known = ", ".join([*AS_THEY_ARE, "base64"])
        raise refuse(
            f"input '{tensor.name}': content_type {content_type!r:.40} is not supported for BYTES; use {known}"
        )
    texts = [element and _base64(tensor.name, place, element) for place, element in enumerate(tensor.elements)]
    return tensor._replace(elements=texts)


def _base64(name: str, place: int, element: str) -> str:
    try:
        return base64.b64decode(element, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise refuse(f"input '{name}': element {place} is not UTF-8 text in base64") from error
