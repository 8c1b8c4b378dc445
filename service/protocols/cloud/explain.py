"""Explanations as clients of KServe's first protocol ask for them: POST /v1/models/{name}:explain.

The request is that of `:predict`; each prediction of the answer has an `explanation` beside it, the one that a native
request with `"explain": true` gets.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from batchproof.service.inference.model import Described, Model
from batchproof.service.protocols.cloud.protocol import Version1, label_header
from batchproof.service.protocols.cloud.request import ScoringReader
from batchproof.service.protocols.interface import JSON, Answer, Call, Codec, Decoded, HeavyRequestError, Limits
from batchproof.service.protocols.json_text.prediction_text import PredictionText
from batchproof.service.protocols.options import Options, OptionWriter

EXPLAIN = Options(explain=True)


class ExplainCodec:
    """One model's requests for explanations, and their answers."""

    def __init__(self, model: Described, limits: Limits, label: str = "") -> None:
        """Prebuild the reader, the text of predictions and the plan of mixed rows."""
        self._reader = ScoringReader(model.encoder, limits)
        self._text = PredictionText(model.manifest)
        self._options = OptionWriter(model.manifest)
        self._max_rows = limits.max_rows
        self._label_header = label_header(model, label)

    def decode(self, call: Call) -> Decoded:
        """Return the request's rows, followed by the mixed rows of their explanations; raises ServiceError."""
        decoded = self._reader.read(call)
        if call.is_on_loop and self._options.is_heavy(EXPLAIN, decoded.rows):
            raise HeavyRequestError
        arrays, rows = self._options.expand(EXPLAIN, decoded.arrays, decoded.rows, self._max_rows)
        return Decoded(arrays, rows, added=rows - decoded.rows)

    @staticmethod
    def needs_inputs(_: Decoded) -> bool:
        """Return that answers are made of the rows' values too."""
        return True

    def encode(self, call: Call, decoded: Decoded, outputs: Mapping[str, np.ndarray]) -> Answer:
        """Return each row's prediction with its explanation, as JSON."""
        rows = decoded.rows - decoded.added
        texts = self._text.each({name: values[:rows] for name, values in outputs.items()}) if rows else ()
        predictions = b",".join(self._options.write(EXPLAIN, decoded.arrays, outputs, texts))
        own = ((b"x-request-id", call.request_id.encode()), *self._label_header)
        return Answer(200, (JSON, *own), b'{"predictions":[' + predictions + b"]}")


class Version1Explain(Version1):
    """KServe's first protocol: POST /v1/models/{name}:explain."""

    name = "v1_explain"

    def paths(self, model: Model, *, is_default: bool, is_newest: bool) -> Sequence[str]:
        """Return the explain paths of one model."""
        predict = super().paths(model, is_default=is_default, is_newest=is_newest)
        return [path.removesuffix(":predict") + ":explain" for path in predict]

    def label_paths(self, model: Model, label: str) -> Sequence[str]:
        """Return the explain path of one label."""
        return [path.removesuffix(":predict") + ":explain" for path in super().label_paths(model, label)]

    def codec(self, model: Described, limits: Limits, label: str = "") -> Codec:
        """Return the codec of one model."""
        return ExplainCodec(model, limits, label)

    def claims(self, path: str) -> bool:
        """Return whether the path asks for explanations."""
        return path.startswith("/v1/models/") and path.endswith(":explain")
