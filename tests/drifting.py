"""What all workers counted of a model whose last hour had drifted, without waiting for an hour."""

from batchproof.service.drift.model_drift import Observed
from batchproof.service.drift.report import Change, WindowReport
from batchproof.service.drift.statistics import Figure
from batchproof.service.drift.windows import Ended


def observed() -> Observed:
    """Return an hour in which one figure of two is beyond its threshold, and a day that has not ended."""
    changes = (Change("island", "unseen", Figure(0.25, 0.125)), Change("colour", "prediction", Figure(0.5, 0.75)))
    hour = Ended("1h", 3600.0, 400_000, WindowReport(1234, changes), 7)
    return Observed([hour, Ended("1d", 86400.0, 17_000, None, 1241)], 1241, 30)
