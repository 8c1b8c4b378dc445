"""One loaded model: a bundle, the session that runs it, and the verdict of its check on this host."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias

from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.reader import Bundle
from batchproof.service.bundle.rows import golden
from batchproof.service.bundle.signature import Signature
from batchproof.service.errors import BundleError
from batchproof.service.features.decoder import Decoder
from batchproof.service.features.row_encoder import Encoder
from batchproof.service.features.texts.date_formats import DateFormatError, date_parser
from batchproof.service.inference import trial
from batchproof.service.inference.engine import Engine, EngineOptions, provider_of, threads_of
from batchproof.service.inference.runner import Runner
from batchproof.service.inference.trial import TrialLimits

EXACT_RUN_ROWS = 256  # most rows of one exact run on one core: float64 activations of more leave its cache


class Verdict(Protocol):
    """The result of the check for batch invariance on this host, as far as serving needs it."""

    @property
    def status(self) -> str:
        """Return the verdict in one word, as fingerprints show it."""

    @property
    def sentence(self) -> str:
        """Return the verdict and what was tried."""

    @property
    def seconds(self) -> float:
        """Return how long the check took."""

    @property
    def host(self) -> Mapping[str, Any]:
        """Return the engine, its options and the CPU features that produced the bits."""

    @property
    def bits(self) -> str:
        """Return the digest of the probe rows' outputs: two processes that agree have the same one."""

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""


class Described(Protocol):
    """What a wire protocol knows of a model: how to read its rows and to name its outputs, not how to run it."""

    @property
    def manifest(self) -> Manifest:
        """Return what bundle.json says."""

    @property
    def encoder(self) -> Encoder:
        """Return the signature, arranged for encoding."""

    @property
    def decoder(self) -> Decoder:
        """Return the manifest, arranged for naming outputs."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what answers were made by."""


@dataclass(frozen=True)
class Description:
    """A model without its engine, as another process may have it."""

    manifest: Manifest
    encoder: Encoder
    decoder: Decoder
    fingerprint: dict[str, Any]

    @classmethod
    def of(cls, model: Described) -> "Description":
        """Return the description of a model."""
        return cls(model.manifest, model.encoder, model.decoder, model.fingerprint)


Verify: TypeAlias = Callable[[Bundle, Runner], tuple[Runner, Verdict]]  # raises EngineError where it refuses the model


@dataclass(frozen=True)
class Model:
    """Ready to answer: it has reproduced its golden rows here."""

    bundle: Bundle
    engine: Engine
    runner: Runner
    encoder: Encoder = field(repr=False)
    decoder: Decoder = field(repr=False)
    verification: Verdict | None
    is_violated: bool = False  # whether a row's bits were seen to depend on its batch since it was loaded

    @property
    def manifest(self) -> Manifest:
        """Return what bundle.json says."""
        return self.bundle.manifest

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Return what answers were made by: equal fingerprints of exact bundles mean equal bits."""
        description = self.engine.description
        return {
            "sha256": self.manifest.sha256,
            "arithmetic": self.manifest.arithmetic.kind,
            "engine": description["engine"],
            "device": description["device"],
            "invariance": self._invariance,
            **({"signer": self.bundle.signer} if self.bundle.signer else {}),
        }

    @property
    def _invariance(self) -> str:
        if self.is_violated:
            return "violated"
        return self.verification.status if self.verification else "unverified"


def load(
    bundle: Bundle,
    options: EngineOptions,
    run_rows: int,
    verify: Verify | None = None,
    limits: TrialLimits | None = None,
    verify_in_trial: Verify | None = None,
) -> Model:
    """Start the engine, reproduce the golden rows, verify; in a child process first where the cost is not known.

    `limits` hold for that child, which checks with `verify_in_trial`, or `verify` if there is none. Raises BundleError or
    EngineError.
    """
    limits = limits or TrialLimits()
    run_rows = run_rows_of(bundle.manifest.arithmetic.kind, options, run_rows)
    if why := trial.reason(bundle, run_rows, limits):
        is_on_cpu = provider_of(options)[0] == "CPUExecutionProvider"
        work = (_load, options, run_rows, verify_in_trial or verify)
        trial.check(bundle, limits, why, *work, is_on_cpu=is_on_cpu)
    return _load(bundle, options, run_rows, verify)


def run_rows_of(arithmetic: str, options: EngineOptions, run_rows: int) -> int:
    """Return the most rows of one run, where at most `run_rows` are wanted: fewer for exact arithmetic on one core.

    The bits of an exact model do not depend on it, by its proof. Several threads share a run's rows, and a GPU has no such cache.
    """
    is_on_one_core = provider_of(options)[0] == "CPUExecutionProvider" and threads_of(options) == 1
    return min(run_rows, EXACT_RUN_ROWS) if arithmetic == "exact" and is_on_one_core else run_rows


def _load(bundle: Bundle, options: EngineOptions, run_rows: int, verify: Verify | None) -> Model:
    check_date_formats(bundle.manifest.signature)
    engine = Engine(bundle.model, options)
    encoder = Encoder(bundle.manifest.signature)
    runner = Runner(engine, run_rows)
    check_golden(bundle, runner, encoder)
    verification = None
    if verify is not None:
        runner, verification = verify(bundle, runner)
    return Model(bundle, engine, runner, encoder, Decoder(bundle.manifest), verification)


def check_date_formats(signature: Signature) -> None:
    """Raise BundleError for a date format by which no date can be read."""
    for place, feature in enumerate(signature.inputs):
        if feature.text_rule and feature.text_rule.date_format:
            try:
                date_parser(feature.text_rule.date_format)
            except DateFormatError as error:
                raise BundleError(f"bundle.json signature.inputs.{place}.text_rule.date_format: {error}") from error


def check_golden(bundle: Bundle, runner: Runner, encoder: Encoder) -> None:
    """Run the golden rows and compare; raises BundleError naming what differs."""
    encoded = encoder.encode_rows(bundle.golden.rows)
    if encoded.errors:
        row, feature, message = encoded.errors[0]
        raise BundleError(f"golden.json row {row}, feature {feature!r}: {message}")
    (outputs,) = runner.run([encoded.arrays])
    golden.check(bundle.golden, outputs, exact=bundle.manifest.arithmetic.kind == "exact")
