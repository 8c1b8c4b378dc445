"""What a request may ask for besides the prediction: `coverage`, `explain` and `detail`.

An explanation is more rows of the same graph: they follow the request's own rows through admission, runs and split,
and are folded into contributions on the way out. The ordinary part of the answer comes from the request's own rows
alone, so that asking changes none of its bits.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.signature import Feature
from batchproof.service.errors import ServiceError
from batchproof.service.features.arrays import Arrays, Outputs, split
from batchproof.service.features.decoder import shortest
from batchproof.service.features.novelty import Novelty
from batchproof.service.features.row_encoder import value_of

if TYPE_CHECKING:
    from batchproof.service.features.attribution import Contributions, Plan

LOOP_NUMBERS = 1 << 18  # of mixed rows that are made on the event loop


class Options(NamedTuple):
    """What one request asks for."""

    coverage: float | None = None
    explain: bool = False
    detail: bool = False


class OptionWriter:
    """One model's further answers."""

    def __init__(self, manifest: Manifest) -> None:
        """Prepare the baseline row and the plan of mixed rows."""
        self._manifest = manifest
        self._signature = manifest.signature
        self._labels = manifest.signature.classes
        self._targets = manifest.signature.targets
        self._novelty = Novelty(manifest.signature)
        self._baseline = baseline_of(manifest)
        self._names = [feature.name for feature in manifest.signature.inputs]

    def asked(self, content: Mapping[str, Any]) -> Options:
        """Read the fields; raises 422 for a value that cannot be given."""
        wants = {}
        for name in ("explain", "detail"):
            wants[name] = content.get(name, False)
            if type(wants[name]) is not bool:
                raise _refuse(f"{name} must be true or false.")
        if "coverage" in content:
            self._check_coverage(content["coverage"])
        return Options(content.get("coverage"), **wants)

    def is_heavy(self, asked: Options, rows: int) -> bool:
        """Return whether `expand` makes so many numbers that it takes milliseconds."""
        return asked.explain and rows * self._plan().runs * len(self._names) > LOOP_NUMBERS

    def expand(self, asked: Options, arrays: Arrays, rows: int, max_rows: int) -> tuple[Arrays, int]:
        """Return the rows followed by those that their explanations need, and how many they are; raises 422."""
        if not asked.explain or not rows:
            return arrays, rows
        plan = self._plan()
        total = rows * (1 + plan.runs)
        if total > max_rows:
            raise _refuse(
                f"explain runs {plan.runs} rows for each of the {rows}, more than the {max_rows} that one request may hold; "
                f"ask for at most {max_rows // (1 + plan.runs)} rows at once."
            )
        from batchproof.service.features.attribution import expand

        mixed = expand(plan, arrays, self._baseline, self._signature)
        parts = [
            None if own is None or more is None else np.concatenate([own, more])
            for own, more in zip(arrays, mixed, strict=True)
        ]
        return Arrays(*parts), total

    def write(self, asked: Options, arrays: Arrays, outputs: Outputs, texts: Sequence[bytes]) -> list[bytes]:
        """Return each row's prediction with what was asked for in it.

        `arrays` and `outputs` may go on with the mixed rows.
        """
        own = {name: values[: len(texts)] for name, values in outputs.items()}
        extra_fields: list[dict[str, Any]] = [{} for _ in texts]
        if asked.detail:
            self._add_detail(arrays.take(slice(len(texts))), own, extra_fields)
        if asked.coverage is not None:
            self._add_uncertainty(asked.coverage, own, extra_fields)
        if asked.explain and texts:
            self._add_explanations(outputs, len(texts), extra_fields)
        return [
            text[:-1] + b"," + orjson.dumps(fields)[1:] if fields else text
            for text, fields in zip(texts, extra_fields, strict=True)
        ]

    def _plan(self) -> "Plan":
        """Return which mixed rows an explanation needs; few callers ask for one, so what makes it loads with the first."""
        from batchproof.service.features.attribution import plan

        return plan(len(self._names))

    def _check_coverage(self, coverage: Any) -> None:
        conformals = self._manifest.conformals
        if not conformals:
            raise _refuse("coverage is not available: the model was trained without the rows that measure it.")
        if type(coverage) not in (int, float):
            raise _refuse("coverage must be a number, such as 0.9.")
        try:
            conformals[0].level(coverage)
        except ValueError as error:
            raise _refuse(f"{error}.") from error

    def _add_detail(self, arrays: Arrays, own: Outputs, extra_fields: list[dict[str, Any]]) -> None:
        """Say what of each row training did not have and, of exact models, whether a hidden value was clipped."""
        unseen, outside = self._novelty.unseen(arrays), self._novelty.out_of_range(arrays)
        for fields, of_unseen, of_outside in zip(extra_fields, unseen, outside, strict=True):
            fields |= {"unseen": of_unseen, "out_of_range": of_outside}
        if "saturated" in own:
            for fields, saturated in zip(extra_fields, own["saturated"][:, 0].tolist(), strict=True):
                fields["saturated"] = saturated

    def _add_uncertainty(self, coverage: float, own: Outputs, extra_fields: list[dict[str, Any]]) -> None:
        conformals = self._manifest.conformals
        conformal = conformals[0]
        level = conformal.level(coverage)
        if self._labels is None:
            values = own["value"].T  # [targets, rows]
            ends = [one.intervals(level, row) for one, row in zip(conformals, values, strict=True)]
            bounds = np.stack([np.stack(pair, axis=1) for pair in ends], axis=1)  # [rows, targets, 2] float32
            for fields, intervals in zip(extra_fields, shortest(bounds), strict=True):
                if self._targets is None:
                    fields["interval"] = intervals[0]
                else:
                    fields["intervals"] = dict(zip(self._targets, intervals, strict=True))
        else:
            for fields, chosen in zip(extra_fields, conformal.sets(level, own["probabilities"]), strict=True):
                fields["set"] = [self._labels[place] for place in np.flatnonzero(chosen)]
        for fields in extra_fields:
            fields["coverage"] = conformal.coverages[level]

    def _add_explanations(self, outputs: Outputs, rows: int, extra_fields: list[dict[str, Any]]) -> None:
        from batchproof.service.features.attribution import centred, reduce

        name = "value" if self._labels is None else "scores"
        scores = outputs[name][rows:]
        if self._labels is not None:
            scores = centred(scores)
        contributions = reduce(self._plan(), scores)
        if self._targets is not None:
            for row, fields in enumerate(extra_fields):
                explained = (self._explanation(contributions, row, column) for column in range(len(self._targets)))
                fields["explanations"] = dict(zip(self._targets, explained, strict=True))
            return
        columns = (
            np.zeros(rows, int)
            if self._labels is None
            else self._manifest.label_places(outputs["probabilities"][:rows])
        )
        for row, (fields, column) in enumerate(zip(extra_fields, columns.tolist(), strict=True)):
            fields["explanation"] = self._explanation(contributions, row, column)

    def _explanation(self, contributions: "Contributions", row: int, column: int) -> dict[str, Any]:
        """Return what each feature adds to one column of a row's output."""
        return {
            "score": contributions.scores[row, column].item(),
            "baseline": contributions.baseline[row, column].item(),
            "contributions": dict(zip(self._names, contributions.values[row, :, column].tolist(), strict=True)),
            "standard_errors": dict(zip(self._names, contributions.errors[row, :, column].tolist(), strict=True)),
        }


def baseline_of(manifest: Manifest) -> Arrays:
    """Return the typical row, one row: each feature's typical value, or the middle of its range where it has none."""
    values = [_typical(feature) for feature in manifest.signature.inputs]
    return split(manifest.signature, np.array([values], np.float64))


def _typical(feature: Feature) -> float:
    if feature.typical is not None:
        return value_of(feature, feature.codes, feature.typical)
    if feature.kind == "categorical" or feature.range is None:
        return 0.0
    return feature.range[0] / 2 + feature.range[1] / 2


def _refuse(sentence: str) -> ServiceError:
    return ServiceError(422, "invalid_request", sentence)
