"""Tracing as the rest of the service sees it: made where the variables ask for it, and absent elsewhere."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchproof.service.runtime.logs import event
from batchproof.service.runtime.tracing import variables
from batchproof.service.runtime.tracing.context import Sampling
from batchproof.service.runtime.tracing.messages import Messages
from batchproof.service.runtime.tracing.variables import Tracing

if TYPE_CHECKING:
    from batchproof.service.runtime.tracing.exporting import Recorded, SpanExport


class Tracer:
    """Who is traced, and where the spans go."""

    def __init__(self, tracing: Tracing, export: "SpanExport") -> None:
        """Choose requests as the variables say."""
        sampling = Sampling(tracing.sampler)
        self.context_of = sampling.context_of
        self.follows_header = sampling.follows_header
        self._export = export

    def add(self, recorded: "Recorded") -> None:
        """Hand over what was recorded of a request or a run that has ended."""
        self._export.add(recorded)

    def counts(self) -> dict[str, int]:
        """Return what became of the spans so far."""
        return self._export.counts()

    def close(self, timeout_s: float) -> None:
        """Export what waits, for at most `timeout_s`."""
        self._export.close(timeout_s)


def open_tracer() -> Tracer | None:
    """Return the tracer that the environment asks for; None where nothing is traced. Nothing else loads the SDK.

    The SDK reads more variables than `variables` does. What it says of them is logged, and nothing is traced where it raises.
    """
    tracing, _ = variables.read()
    if tracing is None:
        return None
    messages = Messages()
    try:
        with _hidden(tracing.hidden):
            from batchproof.service.runtime.tracing.exporting import SpanExport

            tracer = Tracer(tracing, SpanExport(tracing, messages))
    except Exception as error:  # noqa: BLE001 - of packages, which raise what they like
        said = [*messages.take(), f"Nothing is traced: {type(error).__name__}: {error}"]
        messages.close()
        tracer = None
    else:
        said = messages.take()
    for sentence in said:
        event("tracing_ignored", 30, reason=sentence)
    return tracer


@contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Take variables out of the environment while the SDK is loaded, which would raise where it should use its default."""
    values = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(values)


def report() -> None:
    """Log which variables are passed over and why."""
    for problem in variables.read()[1]:
        event("tracing_ignored", 30, reason=problem)
