"""What the validation rows are asked to choose, a metric for fits and a threshold for labels, checked against the target."""

from batchproof.training.data.tables.table_error import TableError
from batchproof.training.data.target import Target
from batchproof.training.goal import METRICS
from batchproof.training.settings import Settings


def check_choices(target: Target, settings: Settings) -> None:
    """Raise TableError for a metric or a threshold that the target does not have."""
    if settings.metric is not None:
        _check_metric(target, settings.metric)
    if settings.threshold is not None and target.task != "binary":
        what = target.described if target.classes is None else f"has {len(target.classes)} classes"
        rest = "" if target.classes is None else ", and the label is the class of the greatest probability"
        raise TableError(f"--threshold divides two classes, but the target {target.name!r} {what}: leave it out{rest}.")


def _check_metric(target: Target, metric: str) -> None:
    classes = len(target.classes or ())
    kinds = {"classes": classes > 0, "two classes": classes == 2, "a number": classes == 0}
    if not kinds[METRICS[metric]]:
        known = [name for name, kind in METRICS.items() if kinds[kind]]
        what = f"has {classes} classes" if classes else target.described
        raise TableError(
            f"--metric {metric} is for a target of {METRICS[metric]}, but {target.name!r} {what}: use one of {', '.join(known)}."
        )
