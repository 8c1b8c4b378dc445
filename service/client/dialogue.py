"""What both clients ask and what they make of the answers: generators of requests, which are sent the responses.

A client brings the carrying alone: `Client` sends and waits, `AsyncClient` sends and awaits.
"""

from collections.abc import Generator, Mapping
from typing import Any, TypeVar

from service.client.exchange import Request, Response
from service.client.frames import is_frame
from service.client.model import LIST, Address, Described, default_of, described, predictions

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
        """Return the prediction of a row, a list of them for rows, or for a frame the frame with columns more."""
        if is_frame(rows):
            return (yield from self._predict_frame(rows))
        if isinstance(rows, Mapping):
            return (yield from self.predict([rows], "request"))[0]
        address = yield from self._find()
        found = []
        for request in address.requests(rows, on_error):
            found += predictions((yield request))
        return found

    def _predict_frame(self, frame: Any) -> Steps[Any]:
        from service.client import framed

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
