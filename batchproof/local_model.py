"""A bundle in this process: rows or a frame in, predictions or a frame of the same kind out, with the service's bits.

    from batchproof import load_model

    model = load_model("models/penguins")
    model.predict({"island": "Biscoe", "bill_length_mm": 47.1, ...})   # {"label": "Gentoo", "probabilities": {...}}
    model.predict(frame)                                               # the frame and its predictions

The bundle is read, checked and run by the code that serves it. No server is started and no port is opened.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, overload

from batchproof.service.bundle import reader
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.client.codecs import dataframes
from batchproof.service.client.codecs.values import is_one_row, json_row, json_values
from batchproof.service.client.messages import RefusedError
from batchproof.service.configuration.address import root_of
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import ServiceError
from batchproof.service.features.row_encoder import Encoded, Problem
from batchproof.service.inference import model as loading
from batchproof.service.inference.catalogue import repository, roots
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.invariance.check import for_bundles
from batchproof.service.protocols.json_text.json_body import invalid_rows

RUN_ROWS = int(Settings.model_fields["run_rows"].default)

Row = Mapping[str, Any] | Sequence[Any]
Prediction = dict[str, Any]
OnError = Literal["stop", "row"]


def load_model(
    path: str | PathLike[str],
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 1,
    invariance: Literal["require", "tile", "report"] = "require",
) -> "LocalModel":
    """Load the bundle at `path`: models/NAME for its newest version, models/NAME/VERSION for one version.

    The model reproduces its golden rows and passes the invariance check before this returns, as when serving.
    `threads` is for one run of the engine; 0 means one for each core. Raises BundleError for a folder that is not a
    sound bundle, EngineError where it cannot run here, ValueError for a negative number of threads.
    """
    if threads < 0:
        raise ValueError(f"threads must be 0 or more, not {threads}")
    folder = roots.newest(root_of(path))
    with repository.naming(folder):
        model = loading.load(
            reader.read(folder), EngineOptions(device=device, threads=threads), RUN_ROWS, for_bundles(invariance)
        )
    return LocalModel(model)


class LocalModel:
    """One bundle, ready to predict. Any number of threads may use it at once."""

    def __init__(self, model: Model) -> None:
        """Hold a model that was loaded and checked."""
        self._model = model

    def __repr__(self) -> str:
        """Return name, version and task."""
        manifest = self.manifest
        return f"<LocalModel {manifest.name} version {manifest.version}, {manifest.task}>"

    @property
    def manifest(self) -> Manifest:
        """Return what bundle.json says: name, version, signature, metrics, provenance."""
        return self._model.manifest

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the predictions are made by, as the service's responses state it."""
        return dict(self._model.fingerprint)

    @overload
    def predict(self, rows: Mapping[str, Any], *, on_error: OnError = ...) -> Prediction: ...
    @overload
    def predict(self, rows: Sequence[Row], *, on_error: OnError = ...) -> list[Prediction]: ...
    @overload
    def predict(self, rows: Any, *, on_error: OnError = ...) -> Any: ...

    def predict(self, rows: Any, *, on_error: OnError = "stop") -> Any:
        """Return the prediction of one row, a list of them for rows, or a frame with added columns for a frame.

        A row is {feature: value}, or a list in the order of the signature. A frame is one of pandas, polars or
        pyarrow; its result has the same kind, with `prediction` and `probability_<class>` after its own columns, and
        columns that are not features stay as they are. With on_error "row" a bad row gets {"error": ...} in its place;
        for a frame that is a ValueError. Raises RefusedError for rows that the model does not take, in the service's
        words, TypeError for anything that is not rows, ImportError for a frame where pyarrow is not installed.
        """
        if on_error not in ("stop", "row"):
            raise ValueError(f'on_error is {on_error!r}; it must be "stop" or "row"')
        try:
            if dataframes.is_frame(rows) or hasattr(rows, "__arrow_c_stream__"):
                return self._frame(rows, on_error)
            if is_one_row(rows):
                return self._rows([rows], on_error)[0]
            return self._rows(_checked(rows), on_error)
        except ServiceError as error:
            raise RefusedError(error.status, error.code, error.message, [dict(d) for d in error.details]) from error

    def _rows(self, rows: Sequence[Row], on_error: OnError) -> list[Prediction]:
        encoder = self._model.encoder
        plain = [_plain(row) for row in rows]
        encoded = encoder.encode_rows(plain, None, None) if on_error == "row" else encoder.encode_rows(plain)
        if encoded.errors and on_error == "stop":
            raise invalid_rows(encoded)
        good: list[Prediction] = []
        if encoded.kept:
            (outputs,) = self._model.runner.run([encoded.arrays])
            good = self._model.decoder.decode(outputs)
        return _in_places(len(rows), encoded, good)

    def _frame(self, frame: Any, on_error: OnError) -> Any:
        if on_error != "stop":
            raise ValueError('on_error="row" is for rows: a frame is predicted as a whole, or refused')
        try:
            import pyarrow as pa  # noqa: F401 - its absence is one sentence
        except ImportError as error:
            from batchproof.installation import hint

            raise ImportError(f"predicting a frame needs pyarrow, which is not installed: {hint('tables')}") from error
        from batchproof.service.tables.offline.local_frame import predict_frame

        return predict_frame(self._model, frame)


def _checked(rows: Any) -> Sequence[Row]:
    """Return rows; raises TypeError for anything else. A text would be taken for one row per letter."""
    if isinstance(rows, str | bytes | bytearray) or not isinstance(rows, Sequence):
        advice = "; use array.tolist()" if type(rows).__module__ == "numpy" else ""
        raise TypeError(
            "predict takes a row {feature: value}, a list of rows, or a frame of pandas, polars or pyarrow, "
            f"not {type(rows).__name__}{advice}"
        )
    return rows


def _plain(row: Any) -> Any:
    """Return a row with the values that it would have in a request; whatever is not a row stays, to be refused."""
    named = json_row(row)
    if isinstance(named, dict):
        return dict(zip((str(name) for name in named), json_values(named.values()), strict=True))
    return json_values(named) if isinstance(named, list) else named


def _in_places(rows: int, encoded: Encoded, good: Sequence[Prediction]) -> list[Prediction]:
    """Return one entry per row: its prediction, or what is wrong with it."""
    predictions: list[Prediction] = [{}] * rows
    for row, prediction in zip(encoded.kept, good, strict=True):
        predictions[row] = prediction
    faults: dict[int, list[Problem]] = {}
    for problem in encoded.errors:
        faults.setdefault(problem.row or 0, []).append(problem)
    for row, problems in faults.items():
        refused = invalid_rows(encoded._replace(errors=problems))
        predictions[row] = {
            "error": {"code": "invalid_row", "message": refused.message, "details": list(refused.details)}
        }
    return predictions
