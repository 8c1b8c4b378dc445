"""One loaded model: a bundle, the session that runs it, and what was found when it was checked on this host."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from batchproof.service.bundle import golden
from batchproof.service.bundle.manifest import Manifest
from batchproof.service.bundle.reader import Bundle
from batchproof.service.errors import BundleError
from batchproof.service.features.decoder import Decoder
from batchproof.service.features.encoder import Encoder
from batchproof.service.inference.engine import Engine, EngineOptions
from batchproof.service.inference.runner import Runner
from batchproof.service.invariance.check import Verify
from batchproof.service.invariance.verdict import Verification


@dataclass(frozen=True)
class Model:
    """Ready to answer: it has reproduced its golden rows here."""

    bundle: Bundle
    engine: Engine
    runner: Runner
    encoder: Encoder = field(repr=False)
    decoder: Decoder = field(repr=False)
    verification: Verification | None
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
        }

    @property
    def _invariance(self) -> str:
        if self.is_violated:
            return "violated"
        return self.verification.status if self.verification else "unverified"


def load(bundle: Bundle, options: EngineOptions, run_rows: int, verify: Verify | None = None) -> Model:
    """Start the engine, reproduce the golden rows, verify. Raises BundleError or EngineError."""
    engine = Engine(bundle.model, options)
    encoder = Encoder(bundle.manifest.signature)
    runner = Runner(engine, run_rows)
    check_golden(bundle, runner, encoder)
    verification = None
    if verify is not None:
        runner, verification = verify(bundle, runner)
    return Model(bundle, engine, runner, encoder, Decoder(bundle.manifest), verification)


def check_golden(bundle: Bundle, runner: Runner, encoder: Encoder) -> None:
    """Run the golden rows and compare; raises BundleError naming what differs."""
    encoded = encoder.encode_rows(bundle.golden.rows)
    if encoded.errors:
        row, feature, message = encoded.errors[0]
        raise BundleError(f"golden.json row {row}, feature {feature!r}: {message}")
    (found,) = runner.run([encoded.arrays])
    golden.check(bundle.golden, found, exact=bundle.manifest.arithmetic.kind == "exact")
