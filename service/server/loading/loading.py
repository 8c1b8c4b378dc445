"""One bundle to one loaded model, by the settings: its trial, its check, its events."""

from pathlib import Path
from typing import TYPE_CHECKING

from batchproof.service.bundle.reader import Bundle
from batchproof.service.configuration.settings import Settings
from batchproof.service.inference import model
from batchproof.service.inference.engine import EngineOptions
from batchproof.service.inference.model import Model
from batchproof.service.inference.trial import TrialLimits
from batchproof.service.invariance.check import for_bundles
from batchproof.service.runtime.logs import event

if TYPE_CHECKING:
    from batchproof.service.bundle.signing.trust import TrustPolicy


def trust_of(settings: Settings) -> "TrustPolicy | None":
    """Read the keys and certificates of the signers that count; None where signatures are not checked. Raises SettingError."""
    if settings.signatures == "off":
        return None
    from batchproof.service.bundle.signing.trust import trust_policy

    key_files, root_files = map(Path, settings.trusted_keys), map(Path, settings.trusted_ca)
    return trust_policy(settings.signatures, tuple(key_files), tuple(root_files), settings.trusted_subjects)


def engine_options(settings: Settings) -> EngineOptions:
    """Return the options of every session."""
    return EngineOptions(settings.device, settings.threads)


def load_model(settings: Settings, bundle: Bundle, pause_factor: float = 0.0) -> Model:
    """Start the session, reproduce the golden rows, verify; raises BundleError, EngineError, OSError.

    With `pause_factor` the check in this process pauses after each batch, that many times as long as the batch took.
    """
    if bundle.unsigned is not None:
        event("unsigned_model", 30, model=bundle.manifest.name, version=bundle.manifest.version, reason=bundle.unsigned)
    limits = TrialLimits(settings.load_memory_bytes, settings.load_timeout_s)
    check = for_bundles(settings.invariance, pause_factor=pause_factor)
    in_trial = for_bundles(settings.invariance)
    loaded = model.load(bundle, engine_options(settings), settings.run_rows, check, limits, in_trial)
    if loaded.verification is not None:
        verdict = loaded.verification
        event(
            "model_loaded",
            30 if verdict.status == "reported" else 20,
            model=loaded.manifest.name,
            version=loaded.manifest.version,
            invariance=verdict.status,
            verify_s=round(verdict.seconds, 4),
            what=verdict.sentence,
            **({"signer": bundle.signer} if bundle.signer else {}),
        )
        if settings.metrics_folder and settings.invariance != "report":
            from batchproof.service.invariance.worker_agreement import agree

            agree(Path(settings.metrics_folder), loaded.manifest.sha256, verdict)
    return loaded
