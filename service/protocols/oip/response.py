"""An infer answer of the Open Inference Protocol: JSON around the shortest digits, binary tensors behind it."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import orjson

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.features.arrays import Outputs
from batchproof.service.features.decoder import labels_of
from batchproof.service.protocols.compression import accepted, packed
from batchproof.service.protocols.interface import JSON, Answer, Call, Headers
from batchproof.service.protocols.oip.request import Wanted
from batchproof.service.protocols.oip.tensors import to_binary

OCTETS = (b"content-type", b"application/octet-stream")
MIN_PACKED_BYTES = 1024  # below, compressing costs more than it saves


class ResponseWriter:
    """One model's infer answers."""

    def __init__(self, manifest: Manifest) -> None:
        """Prebuild labels and the parts that never change."""
        name, version = orjson.dumps(manifest.name), orjson.dumps(str(manifest.version))
        self._head = b'{"model_name":' + name + b',"model_version":' + version
        classes = manifest.signature.classes or ()
        self._places = manifest.label_places
        self._label_datatype, self._labels = labels_of(classes)
        self._label_texts = [orjson.dumps(label) for label in self._labels]
        self._json: dict[str, Callable[[Outputs], bytes]] = {
            "label": self._label_json,
            "probabilities": partial(_numbers_json, "probabilities"),
            **{name: partial(_numbers_json, name) for name in ("value", "quantiles")},
        }

    def write(self, call: Call, wanted: Wanted, outputs: Outputs) -> Answer:
        """Return the outputs that were asked for, as asked, compressed where the client asks for that."""
        texts, tensors = [], []
        for name, is_binary in wanted.outputs:
            if is_binary:
                text, tensor = self._binary(name, outputs)
                tensors.append(tensor)
            else:
                text = self._json[name](outputs)
            texts.append(text)
        identifier = b"" if wanted.id is None else b',"id":' + orjson.dumps(wanted.id)
        head = b"".join((self._head, identifier, b',"outputs":[', b",".join(texts), b"]}"))
        own_id = (b"x-request-id", call.request_id.encode())
        if not tensors:
            return compressed(Answer(200, (JSON, own_id), head), call.headers)
        length = (b"inference-header-content-length", b"%d" % len(head))
        return compressed(Answer(200, (OCTETS, length, own_id), b"".join((head, *tensors))), call.headers)

    def _label_json(self, outputs: Outputs) -> bytes:
        winners = self._places(outputs["probabilities"]).tolist()
        texts = self._label_texts
        data = b",".join([texts[winner] for winner in winners])
        return b'%b,"data":[%b]}' % (_described("label", self._label_datatype, len(winners), 1), data)

    def _binary(self, name: str, outputs: Outputs) -> tuple[bytes, bytes]:
        elements: np.ndarray | Sequence[str]
        if name == "label":
            winners = self._places(outputs["probabilities"])
            described = _described(name, self._label_datatype, len(winners), 1)
            elements = self._label_elements(winners)
        else:
            elements = outputs[name]
            described = _described(name, "FP32", *elements.shape)
        raw = to_binary(elements)
        return b'%b,"parameters":{"binary_data_size":%d}}' % (described, len(raw)), raw

    def _label_elements(self, winners: np.ndarray) -> np.ndarray | Sequence[str]:
        if self._label_datatype == "BYTES":
            return [str(self._labels[winner]) for winner in winners.tolist()]
        dtype = np.bool_ if self._label_datatype == "BOOL" else np.int64
        labels: np.ndarray = np.array(self._labels, dtype)[winners]
        return labels


def compressed(answer: Answer, headers: Headers) -> Answer:
    """Return the answer in the encoding that the client accepts, where it is long enough to gain by it."""
    if len(answer.body) < MIN_PACKED_BYTES:
        return answer
    encoding = accepted(headers)
    if encoding is None:
        return answer
    more = ((b"content-encoding", encoding), (b"vary", b"accept-encoding"))
    return Answer(answer.status, (*answer.headers, *more), packed(answer.body, encoding))


@lru_cache(256)
def _described(name: str, datatype: str, rows: int, width: int) -> bytes:
    """Return the beginning of an output."""
    return f'{{"name":"{name}","datatype":"{datatype}","shape":[{rows},{width}]'.encode()


def _numbers_json(name: str, outputs: Outputs) -> bytes:
    values = outputs[name]  # [rows, width] float32
    flat = orjson.dumps(values.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    return b'%b,"data":%b}' % (_described(name, "FP32", *values.shape), flat)
