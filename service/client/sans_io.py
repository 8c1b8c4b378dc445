"""What both clients ask and what they make of the answers: generators of requests, which are sent the responses.

A client brings the carrying alone: `Client` sends and waits, `AsyncClient` sends and awaits.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

from batchproof.service.client.dataframes import is_frame
from batchproof.service.client.messages import Request, Response
from batchproof.service.client.model import LIST, STOP, Address, Described, default_of, described, predictions

Result = TypeVar("Result")
Steps = Generator[Request, Response, Result]


class Dialogue:
    """One model of one service, and what is known of it so far."""

    def __init__(self, model: str | None, version: int | None) -> None:
        """Ask `model`, or the service's default model, which is then found out once."""
        self._address = None if model is None else Address(model, version)
        self._version = version
        self._described: Described | None = None

    def model(self) -> Steps[Described]:
        """Return what the service says of the model; it is asked once."""
        if self._described is None:
            address = yield from self._find()
            self._described = described((yield address.describe()))
        return self._described

    def predict(self, rows: Any, on_error: str) -> Steps[Any]:
        """Return the prediction of a row, a list of them for rows, or for a frame the frame with columns more.

        Raises TypeError for what is none of these, and ValueError for an `on_error` that cannot be had.
        """
        if is_frame(rows):
            _check_whole(on_error)
            return (yield from self._predict_frame(rows))
        if isinstance(rows, Mapping):
            return (yield from self.predict([rows], on_error))[0]
        _check_rows(rows)
        address = yield from self._find()
        found = []
        for request in address.requests(rows, on_error):
            found += predictions((yield request))
        return found

    def _predict_frame(self, frame: Any) -> Steps[Any]:
        from batchproof.service.client import frame_codec as framed

        address = yield from self._find()
        model = yield from self.model()
        answers = []
        for request in framed.requests(address, frame, model):
            answers.append((yield request))  # noqa: PERF401 - no comprehension can yield
        return framed.extended(frame, answers, model)

    def _find(self) -> Steps[Address]:
        if self._address is None:
            self._address = Address(default_of((yield LIST)), self._version)
        return self._address


def _check_whole(on_error: str) -> None:
    """Raise ValueError where bad rows of a frame should stay in it: a frame is answered whole or not at all."""
    if on_error not in STOP:
        raise ValueError(
            f"on_error={on_error!r} is for rows, and a frame is answered whole; send its rows as a list of "
            "{feature: value}, missing values as None"
        )


def _check_rows(rows: Any) -> None:
    """Raise TypeError for what is no list of rows; a text would be taken for a row of each letter."""
    if isinstance(rows, str | bytes | bytearray) or not isinstance(rows, Sequence):
        raise TypeError(
            "predict takes a row {feature: value}, a list of rows, or a frame of pandas or polars, "
            f"not {type(rows).__name__}"
        )
