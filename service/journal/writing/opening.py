"""The journal that the settings ask for: its files, its keys, and what it keeps of each model."""

import hashlib
import secrets
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from batchproof.installation import hint
from batchproof.service.configuration.settings import Settings
from batchproof.service.errors import SettingError, nearest, reason
from batchproof.service.inference.model import Model
from batchproof.service.journal.entries import Source
from batchproof.service.journal.writing.chain import Options
from batchproof.service.journal.writing.recording import Journal, ModelJournal
from batchproof.service.runtime.logs import event

LEAST_KEY_BYTES = 16


class ProcessJournal:
    """The journal of one process and the answers that wait for it."""

    def __init__(self, settings: Settings, models: Iterable[Model]) -> None:
        """Open the journal; raises SettingError. A name to leave out or to hash that none of `models` has is an error."""
        _check(settings, list(models))
        if find_spec("pyarrow") is None:  # only the writing process imports it
            raise SettingError(f"The journal needs pyarrow, which is not installed: {hint('tables')}")
        self._settings = settings
        self._hash_key = _hash_key(settings)
        options = Options(
            Path(settings.journal),
            settings.journal_full,
            segment_bytes=settings.journal_segment_bytes,
            segment_s=settings.journal_segment_s,
            keep_s=settings.journal_keep_s,
            sync=settings.journal_sync == "batch",
            upload=settings.journal_upload,
            key=_key(settings),
        )
        _try_folder(options.folder)
        self._journal = Journal(options, settings.timeout_s, (settings.log_format, settings.log_level))

    def of(self, model: Model) -> ModelJournal:
        """Return a deployment's way into the journal."""
        manifest, settings = model.manifest, self._settings
        names = {feature.name for feature in manifest.signature.inputs}
        source = Source(
            manifest.name,
            manifest.version,
            manifest.sha256,
            [(feature.name, feature.kind) for feature in manifest.signature.inputs],
            {tensor.name: (tensor.dtype, tensor.width) for tensor in manifest.outputs},
            model.fingerprint,
            model.verification.host if model.verification else {},
            sorted(names.intersection(settings.journal_leave_out)),
            sorted(names.intersection(settings.journal_hash)),
            self._hash_key,
        )
        return ModelJournal(self._journal, source, settings.journal_share)

    def begin(self) -> None:
        """Remove and upload what earlier processes left, now that the event loop runs, and not only once there are rows."""
        self._journal.attach()

    def counts(self) -> dict[str, int]:
        """Return what became of the rows, as plain data."""
        return vars(self._journal.counts) | {"restarts": self._journal.restarts}

    async def flush(self) -> None:
        """Return when no answer waits for the journal any more."""
        await self._journal.empty()

    def close(self, timeout_s: float) -> None:
        """Write what waits and finish every segment, for `timeout_s` at most."""
        if not self._journal.close(timeout_s):
            event("journal_not_finished", 40, folder=self._settings.journal, timeout_s=timeout_s)


def _check(settings: Settings, models: list[Model]) -> None:
    """Raise SettingError where the settings do not fit together, or name features that no model has."""
    if not settings.journal:
        raise SettingError("journal_upload needs journal, the folder of the journal that is uploaded.")
    if settings.journal_hash and not settings.journal_hash_key:
        raise SettingError(
            "journal_hash needs journal_hash_key, a file with a secret key: without it, hashed values could be guessed."
        )
    both = sorted(set(settings.journal_hash).intersection(settings.journal_leave_out))
    if both:
        raise SettingError(f"journal_hash and journal_leave_out both name {both[0]!r}: name it in only one of them.")
    if settings.journal_keep_s and settings.journal_keep_s <= settings.journal_segment_s:
        raise SettingError(
            f"journal_keep_s is {settings.journal_keep_s:g} s, but a segment may take journal_segment_s = "
            f"{settings.journal_segment_s:g} s to be finished: keep it longer than that."
        )
    known = sorted({feature.name for model in models for feature in model.manifest.signature.inputs})
    for setting in ("journal_leave_out", "journal_hash"):
        for name in getattr(settings, setting):
            if known and name not in known:
                raise SettingError(f"{setting} names {name!r}, which no model has as a feature.{nearest(name, known)}")


def _try_folder(folder: Path) -> None:
    """Make the folder and a file in it; raises SettingError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{secrets.token_hex(4)}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise SettingError(f"The journal cannot be written: {reason(error)}") from error


def _hash_key(settings: Settings) -> str:
    """Return the key of the hashes, hexadecimal; empty where nothing is hashed."""
    if not settings.journal_hash:
        return ""
    try:
        secret = Path(settings.journal_hash_key).read_bytes().strip()
    except OSError as error:
        raise SettingError(f"journal_hash_key cannot be read: {reason(error)}.") from error
    if len(secret) < LEAST_KEY_BYTES:
        raise SettingError(
            f"journal_hash_key: {settings.journal_hash_key} holds {len(secret)} bytes; a secret key needs at least "
            f"{LEAST_KEY_BYTES}."
        )
    return hashlib.sha256(secret).hexdigest()


def _key(settings: Settings) -> str:
    """Return the PEM text of the key that signs segments; empty where they are not signed."""
    if not settings.journal_key:
        return ""
    try:
        from batchproof.service.bundle.signing import keys
    except ImportError as error:
        raise SettingError(f"journal_key needs cryptography, which is not installed: {hint('signing')}") from error
    path = Path(settings.journal_key)
    try:
        keys.read_private_key(path)
    except keys.PasswordNeededError as error:
        raise SettingError(f"journal_key: {error}; the service cannot ask for a password.") from error
    except SettingError as error:
        raise SettingError(f"journal_key: {error}.") from error
    return path.read_text("ascii", "replace")
