"""What both clients ask and what they make of the answers: generators of requests, which are sent the responses.

A client only carries: `Client` sends and waits, `AsyncClient` sends and awaits. A refusal is raised where the generator
waits for the response.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

from batchproof.service.client.codecs.dataframes import check_distinct, collected, is_frame, parts
from batchproof.service.client.codecs.row_codec import EncodedRows, encoded, predictions
from batchproof.service.client.codecs.values import InfiniteValueError, is_one_row
from batchproof.service.client.messages import RefusedError, Request, Response
from batchproof.service.client.model import (
    LIST,
    READY,
    Address,
    Description,
    Summary,
    default_of,
    described,
    listed,
)
from batchproof.service.client.options import Options
from batchproof.service.client.progress import Progress

Result = TypeVar("Result")
Steps = Generator[Request, Response, Result]


class Dialogue:
    """One model of one service, and what is known of it so far."""

    def __init__(self, model: str | None, version: int | None) -> None:
        """Use `model`, or the service's default model, whose name is then requested once."""
        self._address = None if model is None else Address(model, version)
        self._version = version
        self._description: Description | None = None

    def ready(self) -> Steps[bool]:
        """Return whether the service answers predictions."""
        return (yield READY).status == 200

    def models(self) -> Steps[list[Summary]]:
        """Return the models that are served."""
        return listed((yield LIST))

    def model(self, name: str | None = None, version: int | None = None) -> Steps[Description]:
        """Return what the service says of the model `name`; of the client's own, it is asked once."""
        if name is not None:
            return described((yield Address(name, version).describe()))
        if self._description is None:
            address = yield from self._find()
            self._description = described((yield address.describe()))
        return self._description

    def predict(self, rows: Any, options: Options, progress: Progress | None = None) -> Steps[Any]:
        """Return the prediction of a row, a list of them for rows, or for a frame the frame with columns added.

        Raises TypeError for any other value, and ValueError for options that do not fit it.
        """
        if is_frame(rows):
            _check_whole(options)
            return (yield from self._predict_frame(collected(rows), options, progress))
        if is_one_row(rows):
            return (yield from self._predict_rows([rows], options, progress))[0]
        _check_rows(rows)
        return (yield from self._predict_rows(rows, options, progress))

    def _predict_rows(self, rows: Sequence[Any], options: Options, progress: Progress | None) -> Steps[list[Any]]:
        address = yield from self._find()
        size = yield from self._rows_a_request(options)
        answered: list[Any] = []
        for start in range(0, len(rows), size):
            request = yield from self._encoded(rows[start : start + size], options, start)
            answered += predictions((yield address.rows(request.body, start)), request)
            if progress is not None:
                progress(len(answered), len(rows))
        return answered

    def _encoded(self, rows: Sequence[Any], options: Options, first_row: int) -> Steps[EncodedRows]:
        """Return the body for some rows. The model is requested only if a value cannot be encoded without its features."""
        try:
            return encoded(rows, options, first_row)
        except InfiniteValueError:
            model = yield from self.model()
            return encoded(rows, options, first_row, model.features)

    def _predict_frame(self, frame: Any, options: Options, progress: Progress | None) -> Steps[Any]:
        from batchproof.service.client.codecs import frame_codec

        address = yield from self._find()
        model = yield from self.model()
        check_distinct(frame, [feature.name for feature in model.features])
        size = yield from self._rows_a_request(options)
        columns: list[Mapping[str, Any]] = []
        for number, rows in enumerate(parts(frame, size)):
            part = frame_codec.FramePart(rows, number * size, model, options)
            columns.append((yield from _predict_part(part, address)))
            if progress is not None:
                progress(min((number + 1) * size, len(frame)), len(frame))
        return frame_codec.extended(frame, columns)

    def _rows_a_request(self, options: Options) -> Steps[int]:
        features = len((yield from self.model()).features) if options.explain else 0
        return options.rows_a_request(features)

    def _find(self) -> Steps[Address]:
        if self._address is None:
            self._address = Address(default_of((yield LIST)), self._version)
        return self._address


def _predict_part(part: Any, address: Address) -> Steps[Mapping[str, Any]]:
    """Return the columns for a part of a frame; a part that was refused as tensors is sent again as rows, for the words of the refusal."""
    request = part.tensors(address)
    if request is not None:
        try:
            columns: Mapping[str, Any] = part.columns_of_tensors((yield request))
        except RefusedError as error:
            if error.status != 400:
                raise
        else:
            return columns
    rows = part.rows()
    as_rows: Mapping[str, Any] = part.columns_of_rows((yield address.rows(rows.body, rows.first_row)), rows)
    return as_rows


def _check_whole(options: Options) -> None:
    """Raise ValueError for on_error="row" with a frame: a frame is answered as a whole or not at all."""
    if options.keeps_bad_rows:
        raise ValueError(
            f"on_error={options.on_error!r} works only for rows, and a frame is answered as a whole; send its rows as a list of "
            "{feature: value}, missing values as None"
        )


def _check_rows(rows: Any) -> None:
    """Raise TypeError for anything but a list of rows: a text would be read as one row per letter."""
    if isinstance(rows, str | bytes | bytearray) or not isinstance(rows, Sequence):
        raise TypeError(
            "predict takes a row {feature: value}, a list of rows, or a frame of pandas or polars, "
            f"not {type(rows).__name__}"
        )
