"""A queue that notes when observed requests ran: those that are traced or logged. Others pass it as the plain queue."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from batchproof.service.features.arrays import Outputs
from batchproof.service.inference.admission import Ticket
from batchproof.service.inference.batcher import Batcher
from batchproof.service.runtime.tracing.context import TraceContext
from batchproof.service.runtime.tracing.observation import Observation, Run

OnShared = Callable[[Run, Sequence[TraceContext]], None]


class TimedBatcher(Batcher):
    """The queue of one model, with the observed ones among its tickets."""

    on_shared: OnShared | None = None  # called after a run that traced requests shared, before their replies

    def __init__(self, *parts: Any, **named: Any) -> None:
        """Take what a `Batcher` takes."""
        super().__init__(*parts, **named)
        # The tickets whose run is to be noted. Whoever adds one takes it away when it was answered, refused or cancelled.
        self.observed: dict[Ticket, Observation] = {}

    def _end(self, batch: list[Ticket], started_s: float, result: Callable[[], Sequence[Outputs]]) -> None:
        if self.observed:
            observed = [self.observed[ticket] for ticket in batch if ticket in self.observed]
            if observed:
                run = Run(started_s, len(batch), sum(ticket.rows for ticket in batch))
                result = partial(self._timed, run, observed, result)
        # Every run comes here, and super() would cost more than all of the above.
        Batcher._end(self, batch, started_s, result)  # noqa: SLF001

    def _timed(
        self, run: Run, observed: Sequence[Observation], result: Callable[[], Sequence[Outputs]]
    ) -> Sequence[Outputs]:
        """Return the outputs of a run, whose time is noted; raises what it raises."""
        run.has_failed = True
        try:
            outputs = result()
            run.has_failed = False
        finally:
            run.seconds = self._clock() - run.started_s
            for seen in observed:
                seen.run = run
            contexts = [seen.context for seen in observed if seen.context is not None]
            if self.on_shared is not None and contexts and run.requests > 1:
                self.on_shared(run, contexts)
        return outputs
